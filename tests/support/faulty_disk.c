/* A disk that fails when it is told to: preloaded (LD_PRELOAD), it fails the n-th call that touches a file below a folder.
 *
 * Counted are calls that change (open to write or create, write, truncate, rename, link, mkdir, rmdir, unlink, fsync) or that read (open to
 * read, read), by the process that armed it, of whatever library; or sends a signal before it.  A write that fails for want of space takes half of its bytes first, as
 * file systems do.  Used by bench/faults.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CHANGES = 1, READS = 2 };

static char below[PATH_MAX];
static size_t below_length;
static int watched_kinds, fault_errno, lasts, signal_number;
static long fail_at = -1, count;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static char last_call[PATH_MAX + 64];

/* Fail call number `at` (from 1; 0: none, count only) of these kinds below `folder` with `error`; `stays`: and all later ones; or, with
 * error 0, send this process a signal before that call. */
void faulty_disk_arm(const char *folder, int kinds, long at, int error, int stays, int number) {
    strncpy(below, folder, sizeof below - 1);
    below_length = strlen(below);
    watched_kinds = kinds, fault_errno = error, lasts = stays, signal_number = number, fail_at = at, count = 0, last_call[0] = 0;
}

long faulty_disk_count(void) { return count; }

const char *faulty_disk_call(void) { return last_call; }

static int fails(int kind, const char *call, const char *path) {
    if (fail_at < 0 || !(watched_kinds & kind) || strncmp(path, below, below_length) != 0) return 0;
    pthread_mutex_lock(&guard);
    count++;
    int is_due = fail_at > 0 && (count == fail_at || (lasts && count > fail_at));
    if (is_due && !last_call[0]) snprintf(last_call, sizeof last_call, "%s %s", call, path);
    pthread_mutex_unlock(&guard);
    if (is_due && !fault_errno) kill(getpid(), signal_number);
    return is_due && fault_errno;
}

static const char *of_descriptor(int descriptor, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    out[n > 0 ? n : 0] = 0;
    return out;
}

static const char *of_path(int folder, const char *path, char *out) {
    if (path[0] == '/') return path;
    char base[PATH_MAX];
    if (folder == AT_FDCWD) { if (!getcwd(base, sizeof base)) return path; }
    else of_descriptor(folder, base);
    if (snprintf(out, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return path;
    return out;
}

static int cheap_off(int kind) { return fail_at < 0 || !(watched_kinds & kind); }

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define REFUSE do { errno = fault_errno; return -1; } while (0)

static int open_fails(int folder, const char *path, int flags) {
    char out[PATH_MAX];
    int kind = (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) ? CHANGES : READS;
    if (cheap_off(kind) || (flags & O_DIRECTORY)) return 0;
    return fails(kind, "open", of_path(folder, path, out));
}

#define MODE_OF(flags) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list list; va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); }

int open(const char *path, int flags, ...) { MODE_OF(flags) REAL(open); if (open_fails(AT_FDCWD, path, flags)) REFUSE; return real(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) REAL(open64); if (open_fails(AT_FDCWD, path, flags)) REFUSE; return real(path, flags, mode); }
int openat(int f, const char *path, int flags, ...) { MODE_OF(flags) REAL(openat); if (open_fails(f, path, flags)) REFUSE; return real(f, path, flags, mode); }
int openat64(int f, const char *path, int flags, ...) { MODE_OF(flags) REAL(openat64); if (open_fails(f, path, flags)) REFUSE; return real(f, path, flags, mode); }

static int descriptor_fails(int kind, const char *call, int descriptor) {
    char out[PATH_MAX];
    return !cheap_off(kind) && fails(kind, call, of_descriptor(descriptor, out));
}

static size_t half(size_t n) { return fault_errno == ENOSPC ? n / 2 : 0; }

ssize_t write(int d, const void *data, size_t n) {
    REAL(write);
    if (!descriptor_fails(CHANGES, "write", d)) return real(d, data, n);
    if (half(n)) return real(d, data, half(n));
    REFUSE;
}
ssize_t pwrite64(int d, const void *data, size_t n, off64_t at) { REAL(pwrite64); if (descriptor_fails(CHANGES, "pwrite", d)) REFUSE; return real(d, data, n, at); }
ssize_t pwrite(int d, const void *data, size_t n, off_t at) { REAL(pwrite); if (descriptor_fails(CHANGES, "pwrite", d)) REFUSE; return real(d, data, n, at); }
ssize_t writev(int d, const struct iovec *v, int n) { REAL(writev); if (descriptor_fails(CHANGES, "writev", d)) REFUSE; return real(d, v, n); }
ssize_t copy_file_range(int a, off64_t *i, int b, off64_t *o, size_t n, unsigned f) { REAL(copy_file_range); if (descriptor_fails(CHANGES, "copy_file_range", b)) REFUSE; return real(a, i, b, o, n, f); }
ssize_t read(int d, void *data, size_t n) { REAL(read); if (descriptor_fails(READS, "read", d)) REFUSE; return real(d, data, n); }
ssize_t pread(int d, void *data, size_t n, off_t at) { REAL(pread); if (descriptor_fails(READS, "pread", d)) REFUSE; return real(d, data, n, at); }
ssize_t pread64(int d, void *data, size_t n, off64_t at) { REAL(pread64); if (descriptor_fails(READS, "pread", d)) REFUSE; return real(d, data, n, at); }
int fsync(int d) { REAL(fsync); if (descriptor_fails(CHANGES, "fsync", d)) REFUSE; return real(d); }
int fdatasync(int d) { REAL(fdatasync); if (descriptor_fails(CHANGES, "fdatasync", d)) REFUSE; return real(d); }
int ftruncate(int d, off_t n) { REAL(ftruncate); if (descriptor_fails(CHANGES, "ftruncate", d)) REFUSE; return real(d, n); }
int ftruncate64(int d, off64_t n) { REAL(ftruncate64); if (descriptor_fails(CHANGES, "ftruncate", d)) REFUSE; return real(d, n); }

#define ON_PATH(call, folder, path) do { char out[PATH_MAX]; if (!cheap_off(CHANGES) && fails(CHANGES, call, of_path(folder, path, out))) REFUSE; } while (0)

int rename(const char *a, const char *b) { REAL(rename); ON_PATH("rename", AT_FDCWD, b); return real(a, b); }
int renameat(int f, const char *a, int g, const char *b) { REAL(renameat); ON_PATH("rename", g, b); return real(f, a, g, b); }
int link(const char *a, const char *b) { REAL(link); ON_PATH("link", AT_FDCWD, b); return real(a, b); }
int mkdir(const char *p, mode_t m) { REAL(mkdir); ON_PATH("mkdir", AT_FDCWD, p); return real(p, m); }
int mkdirat(int f, const char *p, mode_t m) { REAL(mkdirat); ON_PATH("mkdir", f, p); return real(f, p, m); }
int rmdir(const char *p) { REAL(rmdir); ON_PATH("rmdir", AT_FDCWD, p); return real(p); }
int unlink(const char *p) { REAL(unlink); ON_PATH("unlink", AT_FDCWD, p); return real(p); }
int unlinkat(int f, const char *p, int flags) { REAL(unlinkat); ON_PATH("unlink", f, p); return real(f, p, flags); }
