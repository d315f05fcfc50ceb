/* The least that does this gateway's job in C, for `run` to measure board2mqtt against: one libmosquitto client, one
 * thread, counters instead of sensors, a trace instead of lines. It owns no robustness: no queue on disk, no guard.
 *
 * floor -p PORT -b BASE [-n SENSORS] [-i INTERVAL_MS] [-o OUTPUTS] [-q QOS] [-r] [-t TRACE_SOCKET]
 *   publishes BASE/sensor/sNNNN = 1, 2, 3 … every interval, all sensors together, on the absolute clock
 *   takes ON and OFF on BASE/output/outN/set, traces "<CLOCK_MONOTONIC ns> GPION <0|1>", echoes on BASE/output/outN
 *   says online on BASE/status, and offline by its will and when it ends
 */
#define _GNU_SOURCE
#include <errno.h>
#include <mosquitto.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MAX_TOPIC = 256, NS_PER_S = 1000000000 };

struct agent {
    struct mosquitto *client;
    const char *base;
    int port, sensors, outputs, qos, trace;
    long interval_ms;
    bool retain, connected;
    unsigned long count;
    char status[MAX_TOPIC];
    char (*topics)[MAX_TOPIC]; /* of the sensors, written once */
};

static volatile sig_atomic_t ended;

static void end(int signal)
{
    (void)signal;
    ended = 1;
}

static void connected(struct mosquitto *client, void *data, int refusal)
{
    struct agent *agent = data;
    char filter[MAX_TOPIC];
    if (refusal != 0)
        return;
    agent->connected = true;
    mosquitto_publish(client, NULL, agent->status, 6, "online", 1, true);
    snprintf(filter, sizeof filter, "%s/output/+/set", agent->base);
    mosquitto_subscribe(client, NULL, filter, 1);
}

static void disconnected(struct mosquitto *client, void *data, int cause)
{
    (void)client, (void)cause;
    ((struct agent *)data)->connected = false;
}

/* The number in BASE/output/outN/set, -1 for any other topic. */
static int output_of(const struct agent *agent, const char *topic)
{
    size_t skip = strlen(agent->base);
    int number = -1, len = 0;
    if (strncmp(topic, agent->base, skip) != 0)
        return -1;
    if (sscanf(topic + skip, "/output/out%d/set%n", &number, &len) != 1 || len == 0 || topic[skip + len] != '\0')
        return -1;
    return number >= 0 && number < agent->outputs ? number : -1;
}

static void commanded(struct mosquitto *client, void *data, const struct mosquitto_message *message)
{
    struct agent *agent = data;
    int output = output_of(agent, message->topic);
    bool on = message->payloadlen == 2 && memcmp(message->payload, "ON", 2) == 0;
    bool off = message->payloadlen == 3 && memcmp(message->payload, "OFF", 3) == 0;
    if (output < 0 || message->retain || (!on && !off))
        return;
    if (agent->trace >= 0) {
        struct timespec at;
        char line[64];
        clock_gettime(CLOCK_MONOTONIC, &at);
        int len = snprintf(line, sizeof line, "%lld GPIO%d %d\n",
                           (long long)at.tv_sec * NS_PER_S + at.tv_nsec, output, on);
        if (send(agent->trace, line, len, MSG_DONTWAIT) < 0)
            perror("trace");
    }
    char topic[MAX_TOPIC];
    snprintf(topic, sizeof topic, "%s/output/out%d", agent->base, output);
    mosquitto_publish(client, NULL, topic, on ? 2 : 3, on ? "ON" : "OFF", agent->qos, true);
}

static void read_all(struct agent *agent)
{
    char value[32];
    int len = snprintf(value, sizeof value, "%lu", ++agent->count);
    for (int sensor = 0; sensor < agent->sensors; sensor++)
        mosquitto_publish(agent->client, NULL, agent->topics[sensor], len, value, agent->qos, agent->retain);
}

static int open_trace(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int trace = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (trace < 0 || connect(trace, (struct sockaddr *)&address, sizeof address) != 0) {
        perror(path);
        exit(1);
    }
    return trace;
}

static int open_timer(long interval_ms)
{
    struct itimerspec every = {.it_interval = {interval_ms / 1000, interval_ms % 1000 * 1000000}};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    clock_gettime(CLOCK_MONOTONIC, &every.it_value);
    if (timer < 0 || timerfd_settime(timer, TFD_TIMER_ABSTIME, &every, NULL) != 0) {
        perror("timerfd");
        exit(1);
    }
    return timer;
}

static void turn(struct agent *agent, int timer)
{
    struct pollfd wait[2] = {{.fd = timer, .events = agent->connected ? POLLIN : 0},
                             {.fd = mosquitto_socket(agent->client), .events = POLLIN}};
    if (mosquitto_want_write(agent->client))
        wait[1].events |= POLLOUT;
    if (poll(wait, 2, 500) < 0 && errno != EINTR)
        exit(1);
    if (wait[1].revents & (POLLIN | POLLHUP | POLLERR) && mosquitto_loop_read(agent->client, 1) != MOSQ_ERR_SUCCESS)
        mosquitto_reconnect(agent->client);
    uint64_t ticks;
    if (wait[0].revents & POLLIN && read(timer, &ticks, sizeof ticks) == sizeof ticks)
        read_all(agent);
    if (mosquitto_want_write(agent->client))
        mosquitto_loop_write(agent->client, 1);
    mosquitto_loop_misc(agent->client);
}

static void options(struct agent *agent, int argc, char **argv)
{
    for (int option; (option = getopt(argc, argv, "p:b:n:i:o:q:rt:")) != -1;) {
        switch (option) {
        case 'p': agent->port = atoi(optarg); break;
        case 'b': agent->base = optarg; break;
        case 'n': agent->sensors = atoi(optarg); break;
        case 'i': agent->interval_ms = atol(optarg); break;
        case 'o': agent->outputs = atoi(optarg); break;
        case 'q': agent->qos = atoi(optarg); break;
        case 'r': agent->retain = true; break;
        case 't': agent->trace = open_trace(optarg); break;
        default: exit(2);
        }
    }
    if (agent->base == NULL || strlen(agent->base) > MAX_TOPIC / 2 || agent->sensors < 0 || agent->interval_ms < 1)
        exit(2);
}

int main(int argc, char **argv)
{
    struct agent agent = {.port = 1883, .trace = -1, .sensors = 10, .interval_ms = 1000, .outputs = 4};
    options(&agent, argc, argv);
    signal(SIGTERM, end);
    signal(SIGINT, end);
    snprintf(agent.status, sizeof agent.status, "%s/status", agent.base);
    agent.topics = calloc(agent.sensors, sizeof *agent.topics);
    for (int sensor = 0; sensor < agent.sensors; sensor++)
        snprintf(agent.topics[sensor], sizeof *agent.topics, "%s/sensor/s%04d", agent.base, sensor);
    mosquitto_lib_init();
    agent.client = mosquitto_new("floor", true, &agent);
    mosquitto_max_inflight_messages_set(agent.client, 0);
    mosquitto_connect_callback_set(agent.client, connected);
    mosquitto_disconnect_callback_set(agent.client, disconnected);
    mosquitto_message_callback_set(agent.client, commanded);
    mosquitto_int_option(agent.client, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_will_set(agent.client, agent.status, 7, "offline", 1, true);
    if (mosquitto_connect(agent.client, "127.0.0.1", agent.port, 30) != MOSQ_ERR_SUCCESS) {
        perror("connect");
        return 1;
    }
    int timer = open_timer(agent.interval_ms);
    while (!ended)
        turn(&agent, timer);
    mosquitto_publish(agent.client, NULL, agent.status, 7, "offline", 1, true);
    mosquitto_disconnect(agent.client);
    free(agent.topics);
    return 0;
}
