/* wa.exe and waw.exe: the agent of this installation, started with the Python beside it.

   wa.exe ARGUMENTS    in this console: passes arguments, streams, Ctrl+C and the exit code
   waw.exe ARGUMENTS   without a window, for the start at logon: starts the agent again when it failed, and
                       after an upgrade; once for each person and installation
   waw.exe --stop DIR  for the installer: asks every agent of the installation in DIR to end, by whomever it was
                       started, and waits. Exit code 0 when all have, 3 when one has not
   waw.exe --resume DIR   lets them go on: waw.exe starts the agent again, or ends where it was uninstalled

   Folders: DIR\bin\wa.exe, DIR\app\python\python.exe. The upgrade replaces DIR\app while waw.exe stays.
   The request to end is an event with the folder in its name, which every later version must keep. */

#include <windows.h>
#include <sddl.h>
#include <stdio.h>
#include <wchar.h>

#define LENGTH 4096
#define COMMAND_LENGTH 32768
#define STOP_MS 30000   /* what an agent may need to close a call and queue it */
#define FREE_MS 45000
#define POLL_MS 100
#define RETRY_MS 5000
#define RETRY_MAX_MS 60000
#define CANNOT_START 127
#define IN_USE 3
#define CANCELLED 130   /* wa's own exit code at Ctrl+C */

static wchar_t root[LENGTH], python[LENGTH];

static const wchar_t *joined(const wchar_t *folder, const wchar_t *name)
{
    static wchar_t path[LENGTH];
    _snwprintf(path, LENGTH - 1, L"%ls\\%ls", folder, name);
    return path;
}

/* `\\` separates the name of an event from its namespace, and capitals are the same file. */
static HANDLE named(HANDLE (*make)(const wchar_t *), const wchar_t *prefix)
{
    static wchar_t name[LENGTH];
    wchar_t *letter = name + _snwprintf(name, LENGTH - 1, L"%ls", prefix);
    /* A short name (PROGRA~1) is the same folder. */
    if (!GetLongPathNameW(root, letter, LENGTH / 2))
        wcsncpy(letter, root, LENGTH / 2);
    CharLowerW(letter);
    for (; *letter; letter++)
        if (*letter == L'\\')
            *letter = L'/';
    return make(name);
}

/* Whoever is signed in may wait for the event; only its maker and administrators may set it. */
static HANDLE make_event(const wchar_t *name)
{
    SECURITY_ATTRIBUTES security = {sizeof security, NULL, FALSE};
    HANDLE event = OpenEventW(SYNCHRONIZE, FALSE, name);
    if (event)
        return event;
    ConvertStringSecurityDescriptorToSecurityDescriptorW(L"D:(A;;GA;;;OW)(A;;GA;;;SY)(A;;GA;;;BA)(A;;0x100000;;;AU)",
                                                         SDDL_REVISION_1, &security.lpSecurityDescriptor, NULL);
    event = CreateEventW(&security, TRUE, FALSE, name);
    LocalFree(security.lpSecurityDescriptor);
    return event;
}

/* Ctrl+C is for the agent, which has it from the same console; its end is ours. */
static BOOL WINAPI leave_it_to_the_agent(DWORD kind) { return kind == CTRL_C_EVENT || kind == CTRL_BREAK_EVENT; }

/* What a person would do: Ctrl+C; the agent closes its call, queues it and ends. */
static void interrupt(DWORD process)
{
#ifdef WINDOWLESS
    if (!AttachConsole(process))
        return;
    SetConsoleCtrlHandler(leave_it_to_the_agent, TRUE);
    GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0);
    /* The console stays ours until the event has come, or it would end us instead. */
#else
    (void)process;
    GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0);
#endif
}

/* Run the agent until it ends; gives its exit code. stopped: the installer asked. */
static DWORD run(wchar_t *command, STARTUPINFOW *start, DWORD flags, HANDLE stop, BOOL *stopped)
{
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {0};
    PROCESS_INFORMATION agent;
    DWORD code = CANNOT_START;
    HANDLE job = CreateJobObjectW(NULL, NULL), either[2];

    *stopped = FALSE;
    if (!CreateProcessW(python, command, NULL, NULL, TRUE, flags | CREATE_SUSPENDED, NULL, NULL, start, &agent)) {
        CloseHandle(job);
        return CANNOT_START;
    }
    /* When this program is ended by force, the agent ends as well: nobody would stop it for an upgrade. */
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK;
    SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits);
    AssignProcessToJobObject(job, agent.hProcess);
    ResumeThread(agent.hThread);

    either[0] = agent.hProcess;
    either[1] = stop;
    if (WaitForMultipleObjects(stop ? 2 : 1, either, FALSE, INFINITE) == WAIT_OBJECT_0 + 1) {
        *stopped = TRUE;
        interrupt(agent.dwProcessId);
        if (WaitForSingleObject(agent.hProcess, STOP_MS) == WAIT_TIMEOUT)
            TerminateProcess(agent.hProcess, CANCELLED); /* nothing is lost: it recovers the call at its start */
        WaitForSingleObject(agent.hProcess, INFINITE);
#ifdef WINDOWLESS
        FreeConsole();
#endif
    }
    GetExitCodeProcess(agent.hProcess, &code);
    CloseHandle(agent.hThread);
    CloseHandle(agent.hProcess);
    CloseHandle(job);
    return code;
}

#ifdef WINDOWLESS
static HANDLE open_event(const wchar_t *name) { return OpenEventW(EVENT_MODIFY_STATE, FALSE, name); }

static HANDLE make_mutex(const wchar_t *name) { return CreateMutexW(NULL, FALSE, name); }

/* Is any Python of this installation running? Windows refuses to write to a program that runs. */
static BOOL in_use(void)
{
    HANDLE file = CreateFileW(joined(root, L"app\\python\\python.exe"), GENERIC_READ | GENERIC_WRITE,
                              FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING, 0, NULL);
    DWORD problem = GetLastError();
    if (file != INVALID_HANDLE_VALUE) {
        CloseHandle(file);
        return FALSE;
    }
    return problem != ERROR_FILE_NOT_FOUND && problem != ERROR_PATH_NOT_FOUND;
}

static int ask(BOOL stop)
{
    HANDLE event = named(open_event, L"Global\\WhisperAgent ");
    DWORD waited = 0;
    if (event && stop)
        SetEvent(event);
    if (event && !stop)
        ResetEvent(event);
    /* The handle is kept until all have heard: an event without one is gone. */
    for (; stop && in_use(); waited += POLL_MS) {
        if (waited > FREE_MS)
            return IN_USE;
        Sleep(POLL_MS);
    }
    return 0;
}

/* What the agent says before it has a log of its own, such as that this PC has no extension yet. */
static HANDLE words(void)
{
    SECURITY_ATTRIBUTES inherited = {sizeof inherited, NULL, TRUE};
    wchar_t folder[LENGTH];
    if (!GetEnvironmentVariableW(L"WA_HOME", folder, LENGTH)) {
        if (!GetEnvironmentVariableW(L"LOCALAPPDATA", folder, LENGTH - 100))
            return INVALID_HANDLE_VALUE;
        wcscat(folder, L"\\WhisperAgent");
    }
    CreateDirectoryW(folder, NULL);
    wcscpy(folder, joined(folder, L"Logs"));
    CreateDirectoryW(folder, NULL);
    return CreateFileW(joined(folder, L"autostart.log"), GENERIC_WRITE, FILE_SHARE_READ, &inherited, CREATE_ALWAYS, 0,
                       NULL);
}

static DWORD run_without_a_window(wchar_t *command, HANDLE stop, BOOL *stopped)
{
    SECURITY_ATTRIBUTES inherited = {sizeof inherited, NULL, TRUE};
    STARTUPINFOW start = {0};
    DWORD code;
    start.cb = sizeof start;
    start.dwFlags = STARTF_USESTDHANDLES;
    start.hStdInput = CreateFileW(L"NUL", GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE, &inherited, OPEN_EXISTING, 0, NULL);
    start.hStdOutput = start.hStdError = words();
    /* The wish to ignore Ctrl+C is inherited, and whoever started us may have had it. */
    SetConsoleCtrlHandler(NULL, FALSE);
    code = run(command, &start, CREATE_NO_WINDOW, stop, stopped);
    CloseHandle(start.hStdInput);
    CloseHandle(start.hStdError);
    return code;
}

static int supervise(wchar_t *command, HANDLE stop)
{
    DWORD code, wait_ms = RETRY_MS;
    BOOL stopped;
    named(make_mutex, L"Local\\WhisperAgent ");
    if (GetLastError() == ERROR_ALREADY_EXISTS)
        return 0;
    for (;;) {
        ULONGLONG began = GetTickCount64();
        code = run_without_a_window(command, stop, &stopped);
        if (!stopped && (code == 0 || code == CANCELLED || code == (DWORD)STATUS_CONTROL_C_EXIT))
            return (int)code;
        if (GetTickCount64() - began > RETRY_MAX_MS)
            wait_ms = RETRY_MS;
        if (stopped || WaitForSingleObject(stop, wait_ms) == WAIT_OBJECT_0) {
            while (WaitForSingleObject(stop, 0) == WAIT_OBJECT_0)
                Sleep(POLL_MS);
            wait_ms = RETRY_MS;
        } else {
            wait_ms = wait_ms * 2 < RETRY_MAX_MS ? wait_ms * 2 : RETRY_MAX_MS;
        }
        if (GetFileAttributesW(python) == INVALID_FILE_ATTRIBUTES)
            return 0; /* uninstalled */
    }
}
#endif

/* Our own command line after the name of the program, as it was written. */
static const wchar_t *arguments(void)
{
    const wchar_t *rest = GetCommandLineW();
    if (*rest == L'"') {
        for (rest++; *rest && *rest != L'"'; rest++)
            ;
        rest += *rest == L'"';
    } else {
        while (*rest && *rest != L' ' && *rest != L'\t')
            rest++;
    }
    while (*rest == L' ' || *rest == L'\t')
        rest++;
    return rest;
}

static void up(wchar_t *path)
{
    wchar_t *last = wcsrchr(path, L'\\');
    if (last)
        *last = 0;
}

int wmain(int count, wchar_t **given)
{
    static wchar_t command[COMMAND_LENGTH];
    HANDLE stop;

#ifdef WINDOWLESS
    if (count == 3 && (!wcscmp(given[1], L"--stop") || !wcscmp(given[1], L"--resume"))) {
        wcsncpy(root, given[2], LENGTH - 1);
        return ask(!wcscmp(given[1], L"--stop"));
    }
#else
    (void)count;
    (void)given;
#endif
    GetModuleFileNameW(NULL, root, LENGTH);
    up(root); /* wa.exe */
    up(root); /* bin */
    wcscpy(python, joined(root, L"app\\python\\python.exe"));
    _snwprintf(command, COMMAND_LENGTH - 1, L"\"%ls\" -X utf8 -m whisperagent %ls", python, arguments());
    stop = named(make_event, L"Global\\WhisperAgent ");
#ifdef WINDOWLESS
    return supervise(command, stop);
#else
    STARTUPINFOW start;
    BOOL stopped;
    DWORD code;
    GetStartupInfoW(&start);
    SetConsoleCtrlHandler(leave_it_to_the_agent, TRUE);
    code = run(command, &start, 0, stop, &stopped);
    if (code == CANNOT_START)
        fwprintf(stderr, L"wa: error: cannot start %ls\n    try: install WhisperAgent again\n", python);
    return (int)code;
#endif
}
