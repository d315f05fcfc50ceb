/* Versions of board2mqtt that deploying must cope with, told apart by macros: VERSION, and RUN for what `run` does.
 *
 * It speaks to the service manager as the real one does, and has no configuration: `check` accepts every one. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define GOOD 0
#define NEVER_READY 1
#define DIES_WHEN_READY 2
/* Ready at its first start on a board, never again. */
#define READY_ONCE 3

static void ready(void)
{
    struct sockaddr_un manager = {.sun_family = AF_UNIX};
    const char *message = "READY=1\nSTATUS=version " VERSION " is at work", *path = getenv("NOTIFY_SOCKET");
    int out = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (!path || strlen(path) >= sizeof manager.sun_path)
        exit(3);
    strcpy(manager.sun_path, path);
    if (sendto(out, message, strlen(message), 0, (struct sockaddr *)&manager, sizeof manager) < 0)
        exit(4);
}

static int run(void)
{
    if (RUN == NEVER_READY || (RUN == READY_ONCE && open("state/once", O_CREAT | O_EXCL, 0600) < 0)) {
        fprintf(stderr, "version " VERSION " has no wish to run\n");
        return 1;
    }
    ready();
    if (RUN == DIES_WHEN_READY)
        return 1;
    for (;;)
        pause();
}

int main(int count, char **words)
{
    const char *word = count > 1 ? words[1] : "";
    if (!strcmp(word, "run"))
        return run();
    if (!strcmp(word, "--version"))
        return puts("board2mqtt " VERSION) < 0;
    return strcmp(word, "check") != 0;
}
