/* A softphone that is not there, for wine: a window, a call of SECONDS, the end.

   3CXDesktopApp.exe SECONDS: idle for 2 s, then "Call with +33 6 12 34 56 78", a tone played and the
   microphone open; idle for 2 s again, and it quits. As Windows does (wine does not), it notes in the registry
   that it uses the microphone and when it stopped.

   x86_64-w64-mingw32-gcc -mwindows -municode fake3cx.c -o 3CXDesktopApp.exe -lwinmm */
#include <windows.h>
#include <mmsystem.h>

#define IDLE_MS 2000
#define RATE 48000
#define STORE L"Software\\Microsoft\\Windows\\CurrentVersion\\CapabilityAccessManager\\ConsentStore\\microphone\\NonPackaged\\"

enum { ANSWER = 1, HANG_UP, QUIT };

static int talk_ms;
static HWAVEOUT speaker;
static HWAVEIN microphone;
static WAVEHDR played, heard;
static short tone[RATE], listened[RATE];

static void note_use(BOOL in_use)
{
    WCHAR key[1024] = STORE, path[MAX_PATH];
    ULONGLONG now, never = 0;
    GetModuleFileNameW(NULL, path, MAX_PATH);
    for (WCHAR *letter = path; *letter; letter++)
        if (*letter == '\\')
            *letter = '#';
    lstrcatW(key, path);
    GetSystemTimeAsFileTime((FILETIME *)&now);
    if (in_use)
        RegSetKeyValueW(HKEY_CURRENT_USER, key, L"LastUsedTimeStart", REG_QWORD, &now, sizeof now);
    RegSetKeyValueW(HKEY_CURRENT_USER, key, L"LastUsedTimeStop", REG_QWORD, in_use ? &never : &now, sizeof now);
}

static void answer(void)
{
    WAVEFORMATEX mono = {WAVE_FORMAT_PCM, 1, RATE, RATE * 2, 2, 16, 0};
    if (!waveOutOpen(&speaker, WAVE_MAPPER, &mono, 0, 0, 0)) {
        played = (WAVEHDR){.lpData = (LPSTR)tone, .dwBufferLength = sizeof tone, .dwLoops = 600};
        waveOutPrepareHeader(speaker, &played, sizeof played);
        played.dwFlags |= WHDR_BEGINLOOP | WHDR_ENDLOOP;
        waveOutWrite(speaker, &played, sizeof played);
    }
    if (!waveInOpen(&microphone, WAVE_MAPPER, &mono, 0, 0, 0)) {
        heard = (WAVEHDR){.lpData = (LPSTR)listened, .dwBufferLength = sizeof listened};
        waveInPrepareHeader(microphone, &heard, sizeof heard);
        waveInAddBuffer(microphone, &heard, sizeof heard);
        waveInStart(microphone);
        note_use(TRUE);
    }
}

static void hang_up(void)
{
    if (speaker) {
        waveOutReset(speaker);
        waveOutClose(speaker);
    }
    if (microphone) {
        waveInReset(microphone);
        waveInClose(microphone);
        note_use(FALSE);
    }
}

static LRESULT CALLBACK on_message(HWND window, UINT message, WPARAM what, LPARAM more)
{
    if (message == WM_TIMER) {
        KillTimer(window, what);
        switch (what) {
        case ANSWER:
            answer();
            SetWindowTextW(window, L"Call with +33 6 12 34 56 78 \x2013 3CX");
            SetTimer(window, HANG_UP, talk_ms, NULL);
            break;
        case HANG_UP:
            hang_up();
            SetWindowTextW(window, L"3CX");
            SetTimer(window, QUIT, IDLE_MS, NULL);
            break;
        case QUIT:
            DestroyWindow(window);
        }
        return 0;
    }
    if (message == WM_DESTROY)
        PostQuitMessage(0);
    return DefWindowProcW(window, message, what, more);
}

int WINAPI wWinMain(HINSTANCE program, HINSTANCE before, PWSTR arguments, int show)
{
    WNDCLASSW kind = {.lpfnWndProc = on_message, .hInstance = program, .lpszClassName = L"Softphone"};
    MSG message;
    talk_ms = _wtoi(arguments) * 1000;
    for (int i = 0; i < RATE; i++) /* 1000 Hz: 48 samples */
        tone[i] = (short)(i % 48 < 24 ? 8000 : -8000);
    RegisterClassW(&kind);
    SetTimer(CreateWindowW(L"Softphone", L"3CX", WS_OVERLAPPEDWINDOW | WS_VISIBLE, 10, 10, 300, 200, NULL, NULL,
                           program, NULL),
             ANSWER, IDLE_MS, NULL);
    while (GetMessageW(&message, NULL, 0, 0) > 0)
        DispatchMessageW(&message);
    return 0;
}
