/* Stands between a process and the files of one directory (LD_PRELOAD).
 *
 * Every change to a file below $SHIM_DIR goes to the trace $SHIM_TRACE, in the order in which it
 * happened, so that the test can work out what a disk that kept only what was synced would have at
 * any moment. And one call can be made to fail: $SHIM_FAULT is `file:call:n:how`, the n-th `write`,
 * `sync` or `truncate` of files whose names end in `file`, counted from the moment a file named `arm`
 * is opened. When it has, there is a file $SHIM_TRACE.fired.
 *
 * A record: kind, length of the name, offset, length, name, data; see `faults.rs`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILES 4096
static char *names[FILES]; /* below the directory, by descriptor */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *directory;
static size_t directory_length;
static int trace = -1;
static uint64_t syncs;

static char fault_file[64], fault_call[16], fault_how[16];
static long fault_at = -1, fault_seen;
static int armed, full_next;

static void start(void) {
    directory = getenv("SHIM_DIR");
    const char *path = getenv("SHIM_TRACE"), *fault = getenv("SHIM_FAULT");
    if (!directory || !path) return;
    directory_length = strlen(directory);
    trace = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fault && sscanf(fault, "%63[^:]:%15[^:]:%ld:%15s", fault_file, fault_call, &fault_at, fault_how) != 4) abort();
}

static void put(const void *bytes, size_t length) {
    const char *at = bytes;
    while (length > 0) {
        long n = syscall(SYS_write, trace, at, length);
        if (n <= 0) abort();
        at += n;
        length -= (size_t)n;
    }
}

/* With the lock held. */
static void record(char kind, const char *name, uint64_t offset, uint64_t length, const void *data) {
    struct { char kind, pad[3]; uint32_t name; uint64_t offset, length; } head = {kind, {0}, (uint32_t)strlen(name), offset, length};
    put(&head, sizeof head);
    put(name, head.name);
    if (data) put(data, length);
}

static const char *below(const char *path) {
    pthread_once(&once, start);
    if (trace < 0 || strncmp(path, directory, directory_length) != 0 || path[directory_length] != '/') return NULL;
    return path + directory_length + 1;
}

static const char *of(int fd) {
    pthread_once(&once, start);
    return fd >= 0 && fd < FILES ? names[fd] : NULL;
}

/* How this call is to fail, if it is: with the lock held. */
static const char *fails(const char *name, const char *call) {
    size_t n = strlen(name), f = strlen(fault_file);
    if (!armed || fault_at < 0 || strcmp(call, fault_call) != 0 || n < f || strcmp(name + n - f, fault_file) != 0) return NULL;
    if (full_next) { /* after a short write, the disk is full once */
        full_next = 0;
        return "ENOSPC";
    }
    if (++fault_seen != fault_at) return NULL;
    record('X', name, 0, 0, NULL);
    char fired[512];
    snprintf(fired, sizeof fired, "%s.fired", getenv("SHIM_TRACE"));
    syscall(SYS_close, syscall(SYS_openat, AT_FDCWD, fired, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    if (strcmp(fault_how, "SHORTFULL") == 0) full_next = 1;
    return fault_how;
}

static int number(const char *how) {
    return strcmp(how, "ENOSPC") == 0 ? ENOSPC : strcmp(how, "EDQUOT") == 0 ? EDQUOT : EIO;
}

static int opened(int fd, const char *path) {
    const char *name = fd >= 0 && fd < FILES ? below(path) : NULL;
    if (!name) return fd;
    pthread_mutex_lock(&lock);
    free(names[fd]);
    names[fd] = strdup(name);
    if (strcmp(name, "arm") == 0) {
        armed = 1;
        record('A', name, 0, 0, NULL);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

static int open_at(int at, const char *path, int flags, unsigned mode) {
    int fd = (int)syscall(SYS_openat, at, path, flags, mode);
    if (fd >= 0 && (flags & O_TRUNC) && below(path)) {
        pthread_mutex_lock(&lock);
        record('T', below(path), 0, 0, NULL);
        pthread_mutex_unlock(&lock);
    }
    return opened(fd, path);
}

#define MODE(flags) unsigned mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list l; va_start(l, flags); mode = va_arg(l, unsigned); va_end(l); }
int open(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return open_at(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return open_at(at, path, flags, mode); }

int close(int fd) {
    if (of(fd)) {
        pthread_mutex_lock(&lock);
        free(names[fd]);
        names[fd] = NULL;
        pthread_mutex_unlock(&lock);
    }
    return (int)syscall(SYS_close, fd);
}

static ssize_t write_at(int fd, const void *data, size_t length, off64_t offset, int positioned) {
    const char *name = of(fd);
    if (!name) return positioned ? syscall(SYS_pwrite64, fd, data, length, offset) : syscall(SYS_write, fd, data, length);
    pthread_mutex_lock(&lock);
    const char *how = fails(name, "write");
    ssize_t done;
    if (how && strncmp(how, "SHORT", 5) != 0) {
        errno = number(how);
        done = -1;
    } else {
        if (how && length > 1) length /= 2;
        if (!positioned) offset = lseek(fd, 0, SEEK_CUR);
        done = positioned ? syscall(SYS_pwrite64, fd, data, length, offset) : syscall(SYS_write, fd, data, length);
        if (done > 0) record('W', name, (uint64_t)offset, (uint64_t)done, data);
    }
    int kept = errno;
    pthread_mutex_unlock(&lock);
    errno = kept;
    return done;
}
ssize_t write(int fd, const void *data, size_t length) { return write_at(fd, data, length, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return write_at(fd, data, length, offset, 1); }
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) { return write_at(fd, data, length, offset, 1); }

/* What a sync covers is what was written before it began, and only once it has ended. */
static int sync_of(int fd, long call) {
    const char *name = of(fd);
    if (!name) return (int)syscall(call, fd);
    pthread_mutex_lock(&lock);
    uint64_t id = ++syncs;
    const char *how = fails(name, "sync");
    record('B', name, id, 0, NULL);
    char kept_name[256];
    snprintf(kept_name, sizeof kept_name, "%s", name);
    pthread_mutex_unlock(&lock);
    int done = how ? -1 : (int)syscall(call, fd), kept = how ? number(how) : errno;
    pthread_mutex_lock(&lock);
    record(done == 0 ? 'E' : 'F', kept_name, id, 0, NULL);
    pthread_mutex_unlock(&lock);
    errno = kept;
    return done;
}
int fsync(int fd) { return sync_of(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_of(fd, SYS_fdatasync); }

static int truncate_to(int fd, off64_t size) {
    const char *name = of(fd);
    if (!name) return (int)syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    const char *how = fails(name, "truncate");
    int done = how ? -1 : (int)syscall(SYS_ftruncate, fd, size), kept = how ? number(how) : errno;
    if (done == 0) record('T', name, (uint64_t)size, 0, NULL);
    pthread_mutex_unlock(&lock);
    errno = kept;
    return done;
}
int ftruncate(int fd, off_t size) { return truncate_to(fd, size); }
int ftruncate64(int fd, off64_t size) { return truncate_to(fd, size); }

int unlink(const char *path) {
    int done = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0), kept = errno;
    const char *name = done == 0 ? below(path) : NULL;
    if (name) {
        pthread_mutex_lock(&lock);
        record('U', name, 0, 0, NULL);
        pthread_mutex_unlock(&lock);
    }
    errno = kept;
    return done;
}
