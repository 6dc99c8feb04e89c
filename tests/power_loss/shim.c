/* Lists, in one order, what a process asks of the spool's files: every write and truncation, and
 * the begin and the end of every sync, because another thread may write meanwhile. Each entry names
 * the thread that asked.
 *
 * The library is preloaded into the process. POWER_LOSS_JOURNAL names the file for the list. Every
 * call is also carried out at once: the test replays the list up to any moment and decides what had
 * reached the disk by then.
 *
 * With FAILING_SYNC=n the n-th sync of the database fails once, with EIO. Before that, what was
 * written since the previous sync is undone: a system that could not write pages treats them as
 * written from then on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static int journal = -1;

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static int kind_of(const char *path);

/* 1: the database, 2: its log, 3: the journal that SQLite keeps while it creates the database,
 * 4: the answers, 0: anything else. */
static int kind(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return kind_of(path);
}

static int kind_of(const char *path) {
    const char *name = strrchr(path, '/');
    if (!name) return 0;
    if (!strcmp(name, "/spool.db")) return 1;
    if (!strcmp(name, "/spool.db-wal")) return 2;
    if (!strcmp(name, "/spool.db-journal")) return 3;
    if (!strcmp(name, "/answers")) return 4;
    return 0;
}

static void put(const void *bytes, size_t length) {
    ssize_t (*write_)(int, const void *, size_t) = real("write");
    while (length > 0) {
        ssize_t done = write_(journal, bytes, length);
        if (done <= 0) abort();
        bytes = (const char *)bytes + done;
        length -= (size_t)done;
    }
}

static void note(char op, int file, uint64_t offset, uint64_t length, const void *bytes) {
    if (!file) return;
    unsigned char head[22];
    uint32_t thread = (uint32_t)syscall(SYS_gettid);
    head[0] = (unsigned char)op;
    head[1] = (unsigned char)file;
    memcpy(head + 2, &offset, 8);
    memcpy(head + 10, &length, 8);
    memcpy(head + 18, &thread, 4);
    const char *path = getenv("POWER_LOSS_JOURNAL");
    if (!path) return;
    pthread_mutex_lock(&order);
    if (journal < 0) {
        journal = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (journal < 0) abort();
    }
    put(head, sizeof head);
    if (bytes) put(bytes, length);
    pthread_mutex_unlock(&order);
}

/* What the database had before each write since its last sync, the newest first. */
struct before {
    struct before *next;
    off64_t offset, size;
    size_t length;
    char bytes[];
};
static struct before *unsynced;
static int syncs;

static int failing(void) {
    const char *number = getenv("FAILING_SYNC");
    return number ? atoi(number) : 0;
}

static void remember(int fd, size_t length, off64_t offset) {
    struct stat file;
    struct before *before = malloc(sizeof *before + length);
    if (!before || fstat(fd, &file)) abort();
    ssize_t found = pread64(fd, before->bytes, length, offset);
    before->offset = offset;
    before->size = file.st_size;
    before->length = found > 0 ? (size_t)found : 0;
    pthread_mutex_lock(&order);
    before->next = unsynced;
    unsynced = before;
    pthread_mutex_unlock(&order);
}

static void forget(int fd, int takes_back) {
    ssize_t (*write_)(int, const void *, size_t, off64_t) = real("pwrite64");
    int (*truncate_)(int, off64_t) = real("ftruncate64");
    pthread_mutex_lock(&order);
    while (unsynced) {
        struct before *before = unsynced;
        if (takes_back) {
            if (write_(fd, before->bytes, before->length, before->offset) < 0) abort();
            if (truncate_(fd, before->size)) abort();
        }
        unsynced = before->next;
        free(before);
    }
    pthread_mutex_unlock(&order);
}

/* Whether this sync of the database is the one that fails. */
static int fails(int fd) {
    if (!failing() || kind(fd) != 1) return 0;
    int is_it = __atomic_add_fetch(&syncs, 1, __ATOMIC_SEQ_CST) == failing();
    forget(fd, is_it);
    return is_it;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    ssize_t (*next)(int, const void *, size_t, off64_t) = real("pwrite64");
    if (failing() && kind(fd) == 1) remember(fd, length, offset);
    ssize_t done = next(fd, bytes, length, offset);
    if (done > 0) note('w', kind(fd), (uint64_t)offset, (uint64_t)done, bytes);
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return pwrite64(fd, bytes, length, offset);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    ssize_t (*next)(int, const void *, size_t) = real("write");
    int file = kind(fd);
    off_t offset = file ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t done = next(fd, bytes, length);
    if (done > 0) note('w', file, (uint64_t)offset, (uint64_t)done, bytes);
    return done;
}

int ftruncate64(int fd, off64_t length) {
    int (*next)(int, off64_t) = real("ftruncate64");
    int result = next(fd, length);
    if (result == 0) note('t', kind(fd), (uint64_t)length, 0, NULL);
    return result;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int unlink(const char *path) {
    int (*next)(const char *) = real("unlink");
    int result = next(path);
    if (result == 0) note('u', kind_of(path), 0, 0, NULL);
    return result;
}

static int synced(int fd, const char *name) {
    int (*next)(int) = real(name);
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    note('b', kind(fd), 0, 0, NULL);
    int result = next(fd);
    if (result == 0) note('s', kind(fd), 0, 0, NULL);
    return result;
}

int fsync(int fd) { return synced(fd, "fsync"); }
int fdatasync(int fd) { return synced(fd, "fdatasync"); }
