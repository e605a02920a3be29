/* Make one write to the disk fail, or kill the process before it: preload it, then begin().
 *
 *   gcc -O2 -shared -fPIC faults.c -o faults.so -ldl; LD_PRELOAD=./faults.so python ...
 *
 * Counts every call that changes a file below a folder, whoever makes it: Python, torch, Rust.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char under[4096], names[1 << 20];
static long count, target;
static int failure;

void begin(const char *folder, long n, int error) { /* n-th call; error 0: SIGKILL instead */
    snprintf(under, sizeof under, "%s", folder);
    count = 0, target = n, failure = error, names[0] = 0;
}
const char *calls(void) { return names; } /* a line for each call: name, path */

static int fails(const char *call, const char *path) {
    if (!under[0] || !path || strncmp(path, under, strlen(under))) return 0;
    size_t used = strlen(names);
    snprintf(names + used, sizeof names - used, "%s %s\n", call, path + strlen(under));
    if (++count != target) return 0;
    if (!failure) kill(getpid(), SIGKILL);
    errno = failure;
    return 1;
}

static const char *of_file(int fd, char *room) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, room, 4095);
    room[n < 0 ? 0 : n] = 0;
    return room;
}

static const char *whole(int folder, const char *path, char *room) {
    char start[4096];
    if (path[0] == '/') return path;
    if (folder != AT_FDCWD) of_file(folder, start);
    else if (!getcwd(start, sizeof start)) return path;
    snprintf(room, 8192, "%s/%s", start, path);
    return room;
}

#define REAL(name, ...) ((long (*)())dlsym(RTLD_NEXT, #name))(__VA_ARGS__)
#define ON_PATH(type, name, folder, path, args, ...) \
    type name args { char room[8192]; \
        if (fails(#name, whole(folder, path, room))) return -1; return (type)REAL(name, __VA_ARGS__); }
#define ON_FILE(type, name, fd, args, ...) \
    type name args { char room[4096]; int kept = errno; const char *path = of_file(fd, room); \
        errno = kept; if (fails(#name, path)) return -1; return (type)REAL(name, __VA_ARGS__); }
#define OPEN(name, folder, args, ...) \
    int name args { char room[8192]; va_list more; va_start(more, flags); \
        mode_t mode = va_arg(more, mode_t); va_end(more); \
        if (flags & (O_WRONLY | O_RDWR | O_CREAT) && fails(#name, whole(folder, path, room))) \
            return -1; return (int)REAL(name, __VA_ARGS__); }

OPEN(open, AT_FDCWD, (const char *path, int flags, ...), path, flags, mode)
OPEN(open64, AT_FDCWD, (const char *path, int flags, ...), path, flags, mode)
OPEN(openat, dir, (int dir, const char *path, int flags, ...), dir, path, flags, mode)
OPEN(openat64, dir, (int dir, const char *path, int flags, ...), dir, path, flags, mode)
ON_PATH(int, mkdir, AT_FDCWD, path, (const char *path, mode_t mode), path, mode)
ON_PATH(int, rmdir, AT_FDCWD, path, (const char *path), path)
ON_PATH(int, unlink, AT_FDCWD, path, (const char *path), path)
ON_PATH(int, unlinkat, dir, path, (int dir, const char *path, int how), dir, path, how)
ON_PATH(int, rename, AT_FDCWD, to, (const char *path, const char *to), path, to)
ON_PATH(int, chmod, AT_FDCWD, path, (const char *path, mode_t mode), path, mode)
ON_FILE(ssize_t, write, fd, (int fd, const void *from, size_t n), fd, from, n)
ON_FILE(ssize_t, writev, fd, (int fd, const void *parts, int n), fd, parts, n)
ON_FILE(ssize_t, pwrite64, fd, (int fd, const void *from, size_t n, off_t at), fd, from, n, at)
ON_FILE(ssize_t, sendfile, fd, (int fd, int in, off_t *at, size_t n), fd, in, at, n)
ON_FILE(ssize_t, sendfile64, fd, (int fd, int in, off_t *at, size_t n), fd, in, at, n)
ON_FILE(ssize_t, copy_file_range, fd, (int in, off64_t *at, int fd, off64_t *to, size_t n,
        unsigned flags), in, at, fd, to, n, flags)
ON_FILE(int, fsync, fd, (int fd), fd)
ON_FILE(int, ftruncate, fd, (int fd, off_t size), fd, size)
ON_FILE(int, ftruncate64, fd, (int fd, off_t size), fd, size)
