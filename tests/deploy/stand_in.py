#!/usr/bin/env -S python3 -I -S
"""What a board has and a folder has not: systemctl and its kin, for the board in $DESTDIR; sudo and id.

Called by their names. A service is started as systemd would: the program of the unit that daemon-reload has read, ready
when it says so on $NOTIFY_SOCKET. Every call is noted in state/calls, with its words parted by blanks.
"""

import os
import signal
import sys
import time
from pathlib import Path

BOARD = Path(os.environ["DESTDIR"])
STATE = BOARD / "state"
UNIT = BOARD / "etc/systemd/system/board2mqtt.service"
PATIENCE = 20


def read(name):
    path = STATE / name
    return path.read_text() if path.exists() else ""


def running():
    """The daemon's process id; a zombie that nobody has reaped is none."""
    pid = read("pid")
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] if pid else "Z"
    except FileNotFoundError:
        state = "Z"
    return int(pid) if state != "Z" else 0


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"waited {PATIENCE} s")
        time.sleep(0.002)


def stop():
    if pid := running():
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not running())


def settings(key):
    """The values of a key in the unit as daemon-reload has read it."""
    return [line.split("=", 1)[1] for line in read("loaded").splitlines() if line.startswith(key + "=")]


def environment():
    return " ".join(settings("Environment")).split()


def restart():
    import socket
    import subprocess

    stop()
    # A test may hold the start here.
    wait_until(lambda: not (STATE / "hold").exists())
    program, *words = settings("ExecStart")[0].split()
    path = STATE / "notify"
    path.unlink(missing_ok=True)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(path))
    manager.settimeout(0.01)
    configuration = str(BOARD / "etc/board2mqtt/config.toml")
    variables = dict(pair.split("=", 1) for pair in environment()) | {
        "NOTIFY_SOCKET": str(path), "STATE_DIRECTORY": str(STATE), "RUNTIME_DIRECTORY": str(STATE)}
    with open(STATE / "journal", "a") as journal:
        daemon = subprocess.Popen(
            [BOARD / "usr/local/bin" / program, *words, "-c", configuration], cwd=BOARD, env=variables,
            stdin=subprocess.DEVNULL, stdout=journal, stderr=journal, start_new_session=True)
    (STATE / "pid").write_text(str(daemon.pid))
    told = ""
    while "READY=1" not in told:
        # Looked at before the socket: what it said before it ended is there by then.
        ended = daemon.poll() is not None
        try:
            told += manager.recv(4096).decode() + "\n"
        except TimeoutError:
            if ended:
                sys.exit("Job for board2mqtt.service failed")
    status = [line[7:] for line in told.splitlines() if line.startswith("STATUS=")]
    (STATE / "status").write_text(status[-1] if status else "")


def show(key):
    print({"MainPID": running(), "StatusText": read("status"), "Environment": " ".join(environment())}[key])


def load():
    texts = [UNIT, *sorted(UNIT.with_suffix(".service.d").glob("*.conf"))]
    (STATE / "loaded").write_text("".join(path.read_text() for path in texts if path.exists()))


def tell(answer, good, quiet):
    if not quiet:
        print(answer)
    sys.exit(0 if good else 3)


def systemctl(words):
    options = [word for word in words if word.startswith("--")]
    verb, *_ = [word for word in words if not word.startswith("--")]
    quiet = "--quiet" in options
    if verb == "daemon-reload":
        load()
    elif verb in ("enable", "disable"):
        if not UNIT.exists():
            sys.exit("Failed to find the unit")
        (STATE / "enabled").write_text(f"{verb}d")
    elif verb == "is-enabled":
        if not UNIT.exists():
            sys.exit("Failed to get unit file state")
        answer = "masked" if UNIT.is_symlink() else read("enabled") or "disabled"
        tell(answer, answer == "enabled", quiet)
    elif verb == "is-active":
        tell("active" if running() else "inactive", running(), quiet)
    elif verb == "show":
        show(next(option for option in options if option.startswith("--property=")).split("=")[1])
    elif verb == "restart":
        restart()
    elif verb == "stop":
        stop()
    elif verb != "reset-failed":
        sys.exit(f"no rule for systemctl {verb}")


def sudo(words):
    if words[0] == "-n":
        sys.exit(0 if read("sudo") == "free" else "sudo: a password is required")
    if read("sudo") != "free":
        with open("/dev/tty", "r+b", buffering=0) as terminal:
            terminal.write(b"[sudo] password: ")
            if terminal.readline().decode().strip() != read("sudo"):
                sys.exit("sudo: wrong password")
    os.environ["SUDO"] = "yes"
    os.execvp(words[0], words)


def wants(path):
    if not (BOARD / path).exists():
        sys.exit(f"no {path}")


def main():
    name, words = Path(sys.argv[0]).name, sys.argv[1:]
    with open(STATE / "calls", "a") as calls:
        print(name, *words, file=calls)
    if name == "systemctl":
        systemctl(words)
    elif name == "journalctl":
        print(*read("journal").splitlines()[-15:], sep="\n")
    elif name == "systemd-sysusers":
        wants("etc/sysusers.d/" + words[0])
    elif name == "systemd-tmpfiles":
        wants("etc/tmpfiles.d/" + words[1])
    elif name == "sudo":
        sudo(words)
    elif name == "id":
        print("1000" if (STATE / "sudo").exists() and "SUDO" not in os.environ else "0")
    elif name != "udevadm":
        sys.exit(f"no rule for {name}")


main()
