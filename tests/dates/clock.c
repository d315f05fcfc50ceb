/* A board whose date and boot are the test's: preloaded into the agent, which asks its C library for both.
 *
 * The file $BOARD_CLOCK holds two 64-bit numbers: what the date is off by, in nanoseconds, and how often it was set. Each
 * time the second changes, descriptors that wait for the clock to be set say so, as the kernel's do. $BOARD_BOOT is read
 * in place of the kernel's boot identity. All other clocks are the kernel's.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static struct { _Atomic int64_t off_by_ns, times_set; } *board;
static _Atomic int watching = -1;

__attribute__((constructor)) static void begin(void)
{
    int file = syscall(SYS_openat, AT_FDCWD, getenv("BOARD_CLOCK"), O_RDONLY | O_CLOEXEC);
    board = mmap(NULL, sizeof *board, PROT_READ, MAP_SHARED, file, 0);
    if (board == MAP_FAILED)
        abort();
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int outcome = syscall(SYS_clock_gettime, clock, time);
    if (outcome == 0 && clock == CLOCK_REALTIME) {
        int64_t now = (int64_t)time->tv_sec * 1000000000 + time->tv_nsec + board->off_by_ns;
        time->tv_sec = now / 1000000000;
        time->tv_nsec = now % 1000000000;
    }
    return outcome;
}

int open64(const char *path, int flags, ...)
{
    __builtin_va_list rest;
    __builtin_va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? __builtin_va_arg(rest, mode_t) : 0;
    __builtin_va_end(rest);
    if (strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
        path = getenv("BOARD_BOOT");
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* Has the real timer go off each time the clock is set, so that it is read. */
static void *watch(void *unused)
{
    struct itimerspec soon = { .it_value.tv_nsec = 1 };
    for (int64_t seen = board->times_set;;) {
        int64_t times = board->times_set;
        if (times != seen)
            syscall(SYS_timerfd_settime, watching, 0, &soon, NULL);
        seen = times;
        usleep(1000);
    }
    return unused;
}

int timerfd_settime(int timer, int flags, const struct itimerspec *wanted, struct itimerspec *old)
{
    pthread_t thread;
    if (flags & TFD_TIMER_CANCEL_ON_SET && atomic_exchange(&watching, timer) < 0)
        pthread_create(&thread, NULL, watch, NULL);
    return syscall(SYS_timerfd_settime, timer, flags, wanted, old);
}

ssize_t read(int file, void *into, size_t size)
{
    ssize_t outcome = syscall(SYS_read, file, into, size);
    if (outcome > 0 && file == watching) {
        errno = ECANCELED;
        return -1;
    }
    return outcome;
}
