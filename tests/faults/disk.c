/* A disk that fails, loaded before libc (LD_PRELOAD): tests/faults/disk.py builds and steers it.

   Every call that changes a file under the watched folder is an event. At the chosen event the process gets
   SIGKILL, before, in the middle of, or after the call; or the power is cut: what was never synced is taken
   back first, bytes and names. Or calls fail with ENOSPC and EIO, at a rate. The wall clock can be set.

   The model of a power cut: bytes behind the length that a file had at its last fsync are lost; a file that
   was made, renamed or deleted is as before, unless one of its folders was fsynced since. Each thing is lost
   or kept by chance, as the system is free to have written it or not. Bytes written over old ones are kept. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { PATH = 512, THINGS = 4096 };

/* The control page, shared with the test; disk.py names the same fields in the same order. */
struct control {
    int64_t end;          /* 0 none, 1 kill, 2 power cut */
    int64_t at;           /* the event at which it comes, counted from 1 */
    int64_t moment;       /* 0 before the call, 1 in its middle, 2 after it */
    int64_t rate;         /* of failing calls, in 10,000 */
    int64_t no_sync;      /* fsync says yes and does nothing: the negative control */
    int64_t clock_s;      /* what the wall clock is ahead */
    int64_t seed;
    int64_t events, enospc, eio, ended, bytes_lost, names_lost;
    int64_t telephone[8]; /* pc.py's */
    char place[PATH];     /* of the file at which the end came */
};

struct length { char path[PATH]; off_t synced; };
struct name { int kind; char path[PATH], to[PATH], backup[PATH]; }; /* kind: 1 made, 2 renamed, 3 deleted */

static struct control *control;
static char root[PATH], kept[PATH];
static struct length lengths[THINGS];
static struct name names[THINGS];
static int length_count, name_count, backups;
static uint64_t chance = 88172645463325252ull;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static uint64_t draw(uint64_t limit) {
    chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
    return chance % limit;
}

/* Watch `folder` from now on. page: the control page's file. keep: where old files are kept for a power cut,
   on the same file system and not watched. */
void faults_arm(const char *page, const char *folder, const char *keep) {
    int handle = (int)syscall(SYS_openat, AT_FDCWD, page, O_RDWR | O_CLOEXEC);
    void *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
    close(handle);
    if (mapped == MAP_FAILED) abort();
    snprintf(root, PATH, "%s", folder);
    snprintf(kept, PATH, "%s", keep);
    control = mapped;
    chance ^= (uint64_t)control->seed * 0x9E3779B97F4A7C15ull;
    if (!chance) chance = 1;
}

/* What others write for themselves, or what no promise hangs on, is left alone. */
static int watched(const char *path) {
    static const char *not[] = {"-shm", ".lock", ".log", "agent.json", "simulated.json", NULL};
    size_t size = strlen(root);
    if (!control || strncmp(path, root, size) || (path[size] && path[size] != '/')) return 0;
    for (const char **word = not; *word; word++)
        if (strstr(path, *word)) return 0;
    return 1;
}

static int path_of(int handle, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t count = readlink(link, path, PATH - 1);
    if (count <= 0) return 0;
    path[count] = 0;
    return watched(path);
}

static void absolute(const char *given, char *path) {
    char folder[PATH];
    if (given[0] == '/' || !getcwd(folder, PATH)) snprintf(path, PATH, "%s", given);
    else if (snprintf(path, PATH, "%s/%s", folder, given) >= PATH) abort();
}

/* Power cuts */

static struct length *length_of(const char *path) {
    for (int i = 0; i < length_count; i++)
        if (!strcmp(lengths[i].path, path)) return &lengths[i];
    return NULL;
}

static void note_length(const char *path, int handle) {
    struct stat now;
    if (control->end != 2 || length_of(path) || length_count == THINGS || fstat(handle, &now)) return;
    struct length *one = &lengths[length_count++];
    snprintf(one->path, PATH, "%s", path);
    one->synced = now.st_size;
}

static void forget_length(const char *path) {
    struct length *one = length_of(path);
    if (one) *one = lengths[--length_count];
}

static void note_name(int kind, const char *path, const char *to) {
    if (control->end != 2 || name_count == THINGS) return;
    struct name *one = &names[name_count++];
    memset(one, 0, sizeof *one);
    one->kind = kind;
    snprintf(one->path, PATH, "%s", path);
    snprintf(one->to, PATH, "%s", to);
    const char *lost = kind == 2 ? to : kind == 3 ? path : NULL;
    if (!lost) return;
    if (snprintf(one->backup, PATH, "%s/%d.%d", kept, (int)getpid(), backups++) >= PATH) abort();
    if (link(lost, one->backup)) one->backup[0] = 0;
}

static void drop_name(int index) {
    if (names[index].backup[0]) REAL(unlink)(names[index].backup);
    memmove(&names[index], &names[index + 1], sizeof *names * (size_t)(--name_count - index));
}

static int lies_in(const char *path, const char *folder) {
    size_t size = strlen(folder);
    return !strncmp(path, folder, size) && path[size] == '/' && !strchr(path + size + 1, '/');
}

static void synced(const char *path) {
    if (control->end != 2) return;
    forget_length(path);
    for (int i = name_count - 1; i >= 0; i--)
        if (lies_in(names[i].path, path) || (names[i].kind == 2 && lies_in(names[i].to, path))) drop_name(i);
}

static void lose(void) {
    int all = draw(2) == 0;
    for (int i = 0; i < length_count; i++) {
        struct stat now;
        if ((all || draw(2)) && !stat(lengths[i].path, &now) && now.st_size > lengths[i].synced) {
            control->bytes_lost += now.st_size - lengths[i].synced;
            if (truncate(lengths[i].path, lengths[i].synced)) abort();
        }
    }
    /* Newest first, and an older one only if all newer ones went: the names of a folder go back in time. */
    for (int i = name_count - 1; i >= 0 && (all || draw(2)); i--) {
        struct name *one = &names[i];
        control->names_lost++;
        if (one->kind == 1) REAL(unlink)(one->path);
        if (one->kind == 2) REAL(rename)(one->to, one->path);
        if (one->backup[0]) REAL(rename)(one->backup, one->kind == 2 ? one->to : one->path);
    }
}

/* Events */

static void __attribute__((noreturn)) end_here(void) {
    control->ended = control->end;
    if (control->end == 2) lose();
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

enum verdict { GO, HALF, LAST, FAIL_ENOSPC, FAIL_EIO };

/* What becomes of a call that changes `path`; called with the lock held. */
static enum verdict event(const char *path, int can_be_full) {
    control->events++;
    if (control->end && control->events == control->at) {
        snprintf(control->place, PATH, "%s", path);
        if (control->moment == 0) end_here();
        return control->moment == 1 ? HALF : LAST;
    }
    if (control->rate && draw(10000) < (uint64_t)control->rate) {
        if (can_be_full && draw(2)) { control->enospc++; return FAIL_ENOSPC; }
        control->eio++;
        return FAIL_EIO;
    }
    return GO;
}

static int failed(enum verdict verdict) { return verdict == FAIL_ENOSPC || verdict == FAIL_EIO; }

#define LOCKED(verdict, path, full) \
    pthread_mutex_lock(&lock); \
    enum verdict verdict = event(path, full)
#define DONE(verdict) do { if (verdict == HALF || verdict == LAST) end_here(); pthread_mutex_unlock(&lock); } while (0)
#define REFUSE(verdict) do { pthread_mutex_unlock(&lock); errno = verdict == FAIL_ENOSPC ? ENOSPC : EIO; return -1; } while (0)

ssize_t write(int handle, const void *data, size_t size) {
    char path[PATH];
    if (!control || !path_of(handle, path)) return REAL(write)(handle, data, size);
    LOCKED(verdict, path, 1);
    note_length(path, handle);
    if (failed(verdict)) {
        /* A full disk often takes some of it first. */
        if (verdict == FAIL_ENOSPC && size > 1 && draw(2)) {
            ssize_t some = REAL(write)(handle, data, 1 + draw(size - 1));
            pthread_mutex_unlock(&lock);
            return some;
        }
        REFUSE(verdict);
    }
    ssize_t done = REAL(write)(handle, data, verdict == HALF ? size / 2 : size);
    DONE(verdict);
    return done;
}

ssize_t pwrite64(int handle, const void *data, size_t size, off64_t at) {
    char path[PATH];
    if (!control || !path_of(handle, path)) return REAL(pwrite64)(handle, data, size, at);
    LOCKED(verdict, path, 1);
    note_length(path, handle);
    if (failed(verdict)) REFUSE(verdict);
    ssize_t done = REAL(pwrite64)(handle, data, verdict == HALF ? size / 2 : size, at);
    DONE(verdict);
    return done;
}

ssize_t pwrite(int handle, const void *data, size_t size, off_t at) { return pwrite64(handle, data, size, at); }

static int sync_with(int (*sync)(int), int handle) {
    char path[PATH];
    if (!control || !path_of(handle, path)) return sync(handle);
    LOCKED(verdict, path, 0);
    if (failed(verdict)) REFUSE(verdict);
    if (verdict == HALF) end_here();
    int done = 0;
    if (!control->no_sync && !(done = sync(handle))) synced(path);
    DONE(verdict);
    return done;
}

int fsync(int handle) { return sync_with(REAL(fsync), handle); }
int fdatasync(int handle) { return sync_with(REAL(fdatasync), handle); }

int ftruncate64(int handle, off64_t size) {
    char path[PATH];
    if (!control || !path_of(handle, path)) return REAL(ftruncate64)(handle, size);
    LOCKED(verdict, path, 0);
    if (failed(verdict)) REFUSE(verdict);
    if (verdict == HALF) end_here();
    int done = REAL(ftruncate64)(handle, size);
    struct length *one = length_of(path);
    if (one && one->synced > size) one->synced = size;
    DONE(verdict);
    return done;
}

int ftruncate(int handle, off_t size) { return ftruncate64(handle, size); }

int rename(const char *old, const char *new) {
    char from[PATH], to[PATH];
    absolute(old, from), absolute(new, to);
    if (!watched(from) && !watched(to)) return REAL(rename)(old, new);
    LOCKED(verdict, to, 1);
    if (failed(verdict)) REFUSE(verdict);
    if (verdict == HALF) end_here();
    note_name(2, from, to);
    int done = REAL(rename)(old, new);
    if (done) {
        if (control->end == 2 && name_count) drop_name(name_count - 1);
    } else {
        forget_length(to);
        struct length *one = length_of(from);
        if (one) snprintf(one->path, PATH, "%s", to);
    }
    int problem = errno;
    DONE(verdict);
    errno = problem;
    return done;
}

int unlink(const char *given) {
    char path[PATH];
    absolute(given, path);
    if (!watched(path) || access(path, F_OK)) return REAL(unlink)(given);
    LOCKED(verdict, path, 0);
    if (failed(verdict)) REFUSE(verdict);
    if (verdict == HALF) end_here();
    note_name(3, path, "");
    int done = REAL(unlink)(given);
    forget_length(path);
    DONE(verdict);
    return done;
}

static int open_with(int (*call)(const char *, int, ...), const char *given, int flags, mode_t mode) {
    char path[PATH];
    absolute(given, path);
    if (!(flags & O_CREAT) || !watched(path)) return call(given, flags, mode);
    int is_new = access(path, F_OK) != 0;
    LOCKED(verdict, path, 1);
    if (failed(verdict)) REFUSE(verdict);
    if (verdict == HALF) end_here();
    if (is_new) note_name(1, path, "");
    int handle = call(given, flags, mode), problem = errno;
    if (handle < 0 && is_new && control->end == 2 && name_count) drop_name(name_count - 1);
    DONE(verdict);
    errno = problem;
    return handle;
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return open_with(REAL(open64), path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return open_with(REAL(open64), path, flags, mode);
}

/* The wall clock */

int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = (int)syscall(SYS_clock_gettime, clock, now);
    if (control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += control->clock_s;
    return done;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *now, void *zone) {
    (void)zone;
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec, now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
