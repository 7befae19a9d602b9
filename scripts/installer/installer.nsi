; WhisperAgent-Setup.exe, made by scripts/windows-installer. What each option does: docs/deploy.md.
;
; $INSTDIR\app            all that an upgrade replaces: unpacked beside the old one, then swapped in two renames,
;                         so a failure leaves the old version as it was
; $INSTDIR\bin            wa.exe, on PATH, and waw.exe, which starts the agent at logon (launcher.c)
; What needs more than copying is in steps.py; exit codes are those of `wa`, and:
;   3  a program of WhisperAgent does not end   4  an administrator is needed   5  recordings are not sent yet

Unicode true
Target amd64-unicode
SetCompressor /SOLID lzma
ManifestSupportedOS Win10
ManifestDPIAware true
RequestExecutionLevel user
; A file that cannot be written ends it: without this, a silent installation would go on.
AllowSkipFiles off
Name "WhisperAgent"
OutFile "${OUT}"
BrandingText "WhisperAgent ${VERSION}"
VIProductVersion "${VERSION_OF_FOUR}"
VIAddVersionKey "ProductName" "WhisperAgent"
VIAddVersionKey "FileDescription" "WhisperAgent"
VIAddVersionKey "FileVersion" "${VERSION}"
VIAddVersionKey "ProductVersion" "${VERSION}"
VIAddVersionKey "LegalCopyright" "MIT"
!ifdef SIGN
!finalize '${SIGN} "%1"'
!uninstfinalize '${SIGN} "%1"'
!endif

!include MUI2.nsh
!include FileFunc.nsh
!include LogicLib.nsh

!define KEY "Software\Microsoft\Windows\CurrentVersion\Uninstall\WhisperAgent"
!define WRONG_OPTION 2
!define IN_USE 3
!define NO_RIGHT 4

Var AllUsers
Var Options
Var Log
Var Server
Var Extension
Var Person
Var Token

Page custom AskForSettings ReadSettings
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"
!insertmacro MUI_LANGUAGE "French"

LangString SETTINGS ${LANG_ENGLISH} "Settings of this PC"
LangString SETTINGS ${LANG_FRENCH} "Réglages de ce poste"
LangString SETTINGS_WHY ${LANG_ENGLISH} "What is left empty stays as it is; `wa config set` changes it later."
LangString SETTINGS_WHY ${LANG_FRENCH} "Ce qui reste vide ne change pas ; `wa config set` le modifie plus tard."
LangString SERVER ${LANG_ENGLISH} "Server, for instance https://calls.example.com:3002"
LangString SERVER ${LANG_FRENCH} "Serveur, par exemple https://appels.example.com:3002"
LangString EXTENSION ${LANG_ENGLISH} "Extension, for instance 201"
LangString EXTENSION ${LANG_FRENCH} "Poste téléphonique, par exemple 201"
LangString PERSON ${LANG_ENGLISH} "Name"
LangString PERSON ${LANG_FRENCH} "Nom"
LangString TOKEN ${LANG_ENGLISH} "Token that the server gave for this PC"
LangString TOKEN ${LANG_FRENCH} "Jeton que le serveur a donné pour ce poste"
LangString NEEDS_ADMIN ${LANG_ENGLISH} "/ALLUSERS needs an administrator"
LangString NEEDS_ADMIN ${LANG_FRENCH} "/ALLUSERS demande un administrateur"
LangString NEEDS_ALLUSERS ${LANG_ENGLISH} "the system account has no desktop: give /ALLUSERS"
LangString NEEDS_ALLUSERS ${LANG_FRENCH} "le compte système n'a pas de bureau : ajoutez /ALLUSERS"
LangString STILL_RUNS ${LANG_ENGLISH} "a program of WhisperAgent does not end: close it and try again"
LangString STILL_RUNS ${LANG_FRENCH} "un programme de WhisperAgent ne se termine pas : fermez-le et recommencez"
LangString KEPT ${LANG_ENGLISH} "Settings and recordings of this PC stay where they are"
LangString KEPT ${LANG_FRENCH} "Les réglages et les enregistrements de ce poste restent en place"

; In the log, in the window, and for whoever reads our standard output.
!macro SAY un
Function ${un}Say
  Exch $0
  Push $1
  DetailPrint "$0"
  ClearErrors
  FileOpen $1 "$Log" a
  ${IfNot} ${Errors}
    FileSeek $1 0 END
    FileWrite $1 "$0$\r$\n"
    FileClose $1
  ${EndIf}
  System::Call "kernel32::GetStdHandle(i -11) p.r1"
  ${If} $1 P<> 0
    FileWrite $1 "$0$\r$\n"
  ${EndIf}
  Pop $1
  Pop $0
FunctionEnd
!macroend
!insertmacro SAY ""
!insertmacro SAY "un."

!macro FAIL code words
  SetErrorLevel ${code}
  ${IfNot} ${Silent}
    MessageBox MB_ICONSTOP "${words}"
  ${EndIf}
  Quit
!macroend

!macro REFUSE un code words
  Push "${words}"
  Call ${un}Say
  !insertmacro FAIL ${code} "${words}"
!macroend

; $1: what it says, which is said on; $0: its exit code.
!macro STEP un app step
  nsExec::ExecToStack '"${app}\python\python.exe" "${app}\steps.py" ${step}'
  Pop $0
  Pop $1
  ${If} $0 == "error"
    StrCpy $0 1
  ${EndIf}
  ${If} $1 != ""
    Push $1
    Call ${un}Say
  ${EndIf}
!macroend

!macro AGENTS request
  StrCpy $0 1
  ExecWait '"$PLUGINSDIR\waw.exe" --${request} "$INSTDIR"' $0
!macroend

!macro BEGIN un
  ${GetParameters} $Options
  ${GetOptions} $Options "/LOG=" $Log
  ${If} $Log == ""
    StrCpy $Log "$TEMP\WhisperAgent-Setup.log"
  ${EndIf}
  InitPluginsDir
  File "/oname=$PLUGINSDIR\waw.exe" "${BUILD}\waw.exe"
!macroend

!macro TELL_STEPS
  ; By a register: an option may hold quotes.
  StrCpy $0 $Options
  System::Call 'kernel32::SetEnvironmentVariable(t "SETUP_OPTIONS", t r0)'
  StrCpy $0 $INSTDIR
  System::Call 'kernel32::SetEnvironmentVariable(t "SETUP_FOLDER", t r0)'
!macroend

Function .onInit
  !insertmacro BEGIN ""
  UserInfo::GetAccountType
  Pop $1
  ClearErrors
  ${GetOptions} $Options "/ALLUSERS" $0
  ${IfNot} ${Errors}
    StrCpy $AllUsers yes
  ${EndIf}
  ReadRegStr $0 HKLM "${KEY}" "InstallLocation"
  ${If} $0 != ""
    ; Installed for everybody already: a second one for this person would record every call twice.
    StrCpy $AllUsers yes
    StrCpy $Options "$Options /ALLUSERS"
  ${EndIf}
  ${If} $AllUsers == yes
    SetShellVarContext all
    ${If} $1 != "Admin"
      !insertmacro REFUSE "" ${NO_RIGHT} "$(NEEDS_ADMIN)"
    ${EndIf}
  ${ElseIf} "$PROFILE" == "$WINDIR\system32\config\systemprofile"
    !insertmacro REFUSE "" ${WRONG_OPTION} "$(NEEDS_ALLUSERS)"
  ${EndIf}
  ${If} $INSTDIR == ""
    ReadRegStr $INSTDIR SHCTX "${KEY}" "InstallLocation"
  ${EndIf}
  ${If} $INSTDIR == ""
    ${If} $AllUsers == yes
      StrCpy $INSTDIR "$PROGRAMFILES64\WhisperAgent"
    ${Else}
      StrCpy $INSTDIR "$LOCALAPPDATA\Programs\WhisperAgent"
    ${EndIf}
  ${EndIf}
FunctionEnd

Function AskForSettings
  !insertmacro MUI_HEADER_TEXT "$(SETTINGS)" "$(SETTINGS_WHY)"
  ${GetOptions} $Options "/SERVER=" $Server
  ${GetOptions} $Options "/EXTENSION=" $Extension
  ${GetOptions} $Options "/NAME=" $Person
  ${GetOptions} $Options "/TOKEN=" $Token
  nsDialogs::Create 1018
  Pop $0
  ${NSD_CreateLabel} 0 0 100% 10u "$(SERVER)"
  Pop $0
  ${NSD_CreateText} 0 11u 100% 12u "$Server"
  Pop $Server
  ${NSD_CreateLabel} 0 29u 100% 10u "$(EXTENSION)"
  Pop $0
  ${NSD_CreateText} 0 40u 100% 12u "$Extension"
  Pop $Extension
  ${NSD_CreateLabel} 0 58u 100% 10u "$(PERSON)"
  Pop $0
  ${NSD_CreateText} 0 69u 100% 12u "$Person"
  Pop $Person
  ${NSD_CreateLabel} 0 87u 100% 10u "$(TOKEN)"
  Pop $0
  ${NSD_CreatePassword} 0 98u 100% 12u "$Token"
  Pop $Token
  nsDialogs::Show
FunctionEnd

!macro READ field name
  ${NSD_GetText} ${field} $0
  System::Call 'kernel32::SetEnvironmentVariable(t "SETUP_${name}", t r0)'
!macroend

Function ReadSettings
  !insertmacro READ $Server SERVER
  !insertmacro READ $Extension EXTENSION
  !insertmacro READ $Person NAME
  !insertmacro READ $Token TOKEN
FunctionEnd

Section
  !insertmacro TELL_STEPS
  !define APP "$INSTDIR\app.new"
  RMDir /r "${APP}"
  RMDir /r "$INSTDIR\app.old"
  !include "${BUILD}\files.nsh"
  SetOutPath "$INSTDIR"
  !insertmacro STEP "" "${APP}" prepare
  ${If} $0 != 0
    SetOutPath "$TEMP"
    RMDir /r "${APP}"
    RMDir "$INSTDIR"
    !insertmacro FAIL $0 "$1"
  ${EndIf}

  !insertmacro AGENTS stop
  ${If} $0 == 0
    ; An antivirus may hold a file for a moment.
    ${For} $2 1 20
      ClearErrors
      ${If} ${FileExists} "$INSTDIR\app\*.*"
        Rename "$INSTDIR\app" "$INSTDIR\app.old"
      ${EndIf}
      ${IfNot} ${Errors}
        ${ExitFor}
      ${EndIf}
      Sleep 250
    ${Next}
    ${IfNot} ${Errors}
      Rename "${APP}" "$INSTDIR\app"
      ${If} ${Errors}
        Rename "$INSTDIR\app.old" "$INSTDIR\app"
        SetErrors
      ${EndIf}
    ${EndIf}
    ${If} ${Errors}
      StrCpy $0 ${IN_USE}
    ${EndIf}
  ${EndIf}
  ${If} $0 != 0
    !insertmacro AGENTS resume
    RMDir /r "${APP}"
    !insertmacro REFUSE "" ${IN_USE} "$(STILL_RUNS)"
  ${EndIf}

  ; A program that runs cannot be written over, but renamed: it goes with the next upgrade.
  SetOutPath "$INSTDIR\bin"
  Delete "$INSTDIR\bin\*.old"
  Rename "$INSTDIR\bin\wa.exe" "$INSTDIR\bin\wa.exe.old"
  Rename "$INSTDIR\bin\waw.exe" "$INSTDIR\bin\waw.exe.old"
  File "${BUILD}\wa.exe"
  File "${BUILD}\waw.exe"
  Delete "$INSTDIR\bin\*.old"
  RMDir /r "$INSTDIR\app.old"
  SetOutPath "$INSTDIR"
  WriteUninstaller "$INSTDIR\Uninstall.exe"
  !insertmacro STEP "" "$INSTDIR\app" finish
  StrCpy $2 $0
  StrCpy $3 $1
  !insertmacro AGENTS resume

  CreateShortcut "$SMPROGRAMS\WhisperAgent.lnk" "$INSTDIR\bin\wa.exe"
  WriteRegStr SHCTX "${KEY}" "DisplayName" "WhisperAgent"
  WriteRegStr SHCTX "${KEY}" "DisplayVersion" "${VERSION}"
  WriteRegStr SHCTX "${KEY}" "Publisher" "WhisperAgent"
  WriteRegStr SHCTX "${KEY}" "InstallLocation" "$INSTDIR"
  WriteRegStr SHCTX "${KEY}" "DisplayIcon" "$INSTDIR\bin\wa.exe"
  WriteRegStr SHCTX "${KEY}" "UninstallString" '"$INSTDIR\Uninstall.exe"'
  WriteRegStr SHCTX "${KEY}" "QuietUninstallString" '"$INSTDIR\Uninstall.exe" /S'
  WriteRegDWORD SHCTX "${KEY}" "EstimatedSize" ${SIZE_KB}
  WriteRegDWORD SHCTX "${KEY}" "NoModify" 1
  WriteRegDWORD SHCTX "${KEY}" "NoRepair" 1
  ${If} $2 != 0
    !insertmacro FAIL $2 "$3"
  ${EndIf}

  ; For everybody it starts at their next logon: here it would run as the administrator.
  ClearErrors
  ${GetOptions} $Options "/NOSTART" $0
  ${If} ${Errors}
  ${AndIf} $AllUsers != yes
    Exec '"$INSTDIR\bin\waw.exe" agent run --headless'
  ${EndIf}
  Push "WhisperAgent ${VERSION}: $INSTDIR"
  Call Say
SectionEnd

Function un.onInit
  !insertmacro BEGIN "un."
  ReadRegStr $0 HKLM "${KEY}" "InstallLocation"
  ${If} $0 == $INSTDIR
    StrCpy $AllUsers yes
    SetShellVarContext all
    StrCpy $Options "$Options /ALLUSERS"
    UserInfo::GetAccountType
    Pop $1
    ${If} $1 != "Admin"
      !insertmacro REFUSE "un." ${NO_RIGHT} "$(NEEDS_ADMIN)"
    ${EndIf}
  ${EndIf}
FunctionEnd

Section Uninstall
  !insertmacro TELL_STEPS
  SetOutPath "$TEMP"
  !insertmacro AGENTS stop
  ${If} $0 != 0
    !insertmacro AGENTS resume
    !insertmacro REFUSE "un." ${IN_USE} "$(STILL_RUNS)"
  ${EndIf}
  !insertmacro STEP "un." "$INSTDIR\app" remove
  ${If} $0 != 0
    StrCpy $2 $0
    !insertmacro AGENTS resume
    !insertmacro FAIL $2 "$1"
  ${EndIf}
  RMDir /r "$INSTDIR\app"
  RMDir /r "$INSTDIR\app.new"
  RMDir /r "$INSTDIR\app.old"
  !insertmacro AGENTS resume
  ; waw.exe ends when it sees that there is no agent any more; after an upgrade that is waw.exe.old.
  StrCpy $0 0
  ${Do}
    Delete "$INSTDIR\bin\*.*"
    RMDir "$INSTDIR\bin"
    ${IfNot} ${FileExists} "$INSTDIR\bin\*.*"
    ${OrIf} $0 > 50
      ${ExitDo}
    ${EndIf}
    Sleep 100
    IntOp $0 $0 + 1
  ${Loop}
  Delete "$SMPROGRAMS\WhisperAgent.lnk"
  Delete "$INSTDIR\Uninstall.exe"
  RMDir "$INSTDIR"
  DeleteRegKey SHCTX "${KEY}"
  Push "$(KEPT)"
  Call un.Say
  ${IfNot} ${Silent}
  ${AndIf} $1 != ""
    MessageBox MB_ICONINFORMATION "$1"
  ${EndIf}
SectionEnd
