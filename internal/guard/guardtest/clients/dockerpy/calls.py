"""Calls docker-py, the client of Python, as programs and its own tests do, and prints which calls work: "ok NAME" or "not ok NAME: why", one a line.

usage: calls.py IMAGE, with DOCKER_HOST set. What it makes, it removes.
"""
import io
import os
import signal
import sys
import tarfile
import tempfile
import time
import uuid

import docker
from docker.types import IPAMConfig, IPAMPool, LogConfig, Mount, Ulimit

IMAGE = sys.argv[1]
client = docker.from_env(timeout=60)
api = client.api
table = []


def call(f):
    """Makes a function one of the calls that are tried, in their order."""
    table.append(f)
    return f


def name():
    return "py-" + uuid.uuid4().hex[:10]


class Left:
    """What is to be removed in the end."""

    def __init__(self):
        self.undo = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for f in reversed(self.undo):
            try:
                f()
            except docker.errors.APIError:
                pass  # it has gone

    def container(self, command=None, image=IMAGE, **kwargs):
        c = client.containers.create(image, command, **kwargs)
        self.undo.append(lambda: c.remove(force=True, v=True))
        return c

    def low(self, command=None, host=None, **kwargs):
        """A container that is made by the API beneath, of the arguments of create_host_config."""
        made = api.create_container(IMAGE, command, host_config=api.create_host_config(**(host or {})), **kwargs)
        self.undo.append(lambda: api.remove_container(made, force=True, v=True))
        return made

    def running(self, command="sleep 1000", **kwargs):
        c = self.container(command, **kwargs)
        c.start()
        c.reload()
        return c

    def network(self, **kwargs):
        n = client.networks.create(name(), **kwargs)
        self.undo.append(n.remove)
        return n

    def volume(self, **kwargs):
        v = client.volumes.create(name(), **kwargs)
        self.undo.append(lambda: v.remove(force=True))
        return v

    def image(self, tag):
        self.undo.append(lambda: client.images.remove(tag, force=True))
        return tag


def output(c):
    c.start()
    code = c.wait(timeout=60)["StatusCode"]
    out = c.logs().decode()
    assert code == 0, (code, out)
    return out


def host_config(**kwargs):
    with Left() as left:
        made = left.low("true", kwargs)
        api.start(made)
        assert api.wait(made)["StatusCode"] == 0
        return api.inspect_container(made)["HostConfig"]


def archive(**files):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w") as tar:
        for k, text in files.items():
            info = tarfile.TarInfo(k)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return b.getvalue()


def fails(kind, f, *args, **kwargs):
    try:
        f(*args, **kwargs)
    except kind as err:
        return err
    raise AssertionError(f"no {kind.__name__}")


# The daemon.


@call
def ping():
    assert client.ping()


@call
def version():
    assert "ApiVersion" in client.version()
    assert "Containers" in client.info()
    assert "Volumes" in client.df()


@call
def search():
    fails(docker.errors.APIError, client.images.search, "127.0.0.1:1/nothing")


@call
def events():
    with Left() as left:
        since = int(time.time()) - 1
        c = left.running("true")
        c.wait()
        actions = [e["Action"] for e in client.events(since=since, until=int(time.time()) + 1, decode=True, filters={"container": c.id})]
        assert actions[:3] == ["create", "start", "die"] or actions[:2] == ["create", "attach"], actions


@call
def events_of_top_and_rename():
    with Left() as left:
        since = int(time.time()) - 1
        c = left.running()
        c.top()
        new = name()
        c.rename(new)
        seen = {e["Action"]: e for e in client.events(since=since, until=int(time.time()) + 1, decode=True) if e.get("id") == c.id}
        assert "top" in seen and "rename" in seen, list(seen)
        attributes = seen["rename"]["Actor"]["Attributes"]
        assert attributes["name"] == new and attributes["oldName"] == "/" + c.name, attributes


# Containers.


@call
def run():
    assert client.containers.run(IMAGE, "echo hello world", remove=True) == b"hello world\n"


@call
def run_detached():
    with Left() as left:
        c = client.containers.run(IMAGE, "sleep 1000", detach=True)
        left.undo.append(lambda: c.remove(force=True))
        assert c.attrs["Config"]["Image"] == IMAGE
        assert c.status in ("created", "running")


@call
def run_with_error():
    err = fails(docker.errors.ContainerError, client.containers.run, IMAGE, "sh -c 'echo to >&2; exit 3'", remove=True)
    assert err.exit_status == 3 and b"to" in err.stderr, err


@call
def run_without_the_command():
    err = fails(docker.errors.APIError, client.containers.run, IMAGE, "no-such-command", remove=True)
    assert err.status_code in (400, 404), err


@call
def run_without_the_image():
    err = fails(docker.errors.APIError, client.containers.run, "127.0.0.1:1/nothing", "true")
    assert "refused" in err.explanation, err


@call
def run_streamed():
    lines = client.containers.run(IMAGE, "sh -c 'echo hello; echo world'", stream=True)
    assert [x.decode() for x in lines] == ["hello\n", "world\n"]


@call
def run_on_a_network():
    with Left() as left:
        n = left.network()
        c = client.containers.run(IMAGE, "sleep 1000", network=n.name, detach=True)
        left.undo.append(lambda: c.remove(force=True))
        c.reload()
        assert list(c.attrs["NetworkSettings"]["Networks"]) == [n.name], c.attrs["NetworkSettings"]["Networks"]


@call
def run_with_networking_config():
    with Left() as left:
        n = left.network()
        config = {n.name: client.api.create_endpoint_config(aliases=["hello"], driver_opt={"com.docker.network.endpoint.any": "1"})}
        c = client.containers.create(IMAGE, "true", network=n.name, networking_config=config)
        left.undo.append(lambda: c.remove(force=True))
        assert "hello" in c.attrs["NetworkSettings"]["Networks"][n.name]["Aliases"]


@call
def run_with_a_log_driver_of_none():
    with Left() as left:
        c = left.container("true", log_config=LogConfig(type="none"))
        c.start()
        c.wait()
        assert c.attrs["HostConfig"]["LogConfig"]["Type"] == "none"


@call
def run_with_log_options():
    assert host_config(log_config=LogConfig(type=LogConfig.types.JSON, config={"max-size": "10m"}))["LogConfig"]["Config"]["max-size"] == "10m"


@call
def list_of_containers():
    with Left() as left:
        c = left.running(labels={"a": "b"})
        assert c.id in [x.id for x in client.containers.list()]
        assert [x.id for x in client.containers.list(filters={"id": c.id})] == [c.id]
        assert [x.id for x in client.containers.list(all=True, filters={"name": c.name})] == [c.id]
        one = [x for x in api.containers(all=True, trunc=True) if c.id.startswith(x["Id"])][0]
        assert one["Names"] == ["/" + c.name] and one["Labels"] == {"a": "b"}, one
        assert api.containers(quiet=True, limit=1, size=True)


@call
def labels():
    with Left() as left:
        c = left.container("true", labels=["one", "two"])
        assert c.labels == {"one": "", "two": ""}, c.labels
        assert c.attrs["Config"]["Labels"] == {"one": "", "two": ""}


@call
def no_such_container():
    err = fails(docker.errors.NotFound, client.containers.get, "nothing")
    assert err.explanation == "No such container: nothing", err.explanation


@call
def name_taken():
    with Left() as left:
        c = left.container("true")
        err = fails(docker.errors.APIError, client.containers.create, IMAGE, name=c.name)
        assert err.status_code == 409 and f'container name "/{c.name}" is already in use by container "{c.id}"' in err.explanation, err.explanation


@call
def inspect():
    with Left() as left:
        c = left.running()
        a = c.attrs
        assert a["Name"] == "/" + c.name and a["HostConfig"]["NetworkMode"] in ("default", "bridge"), a["HostConfig"]["NetworkMode"]
        n = a["NetworkSettings"]
        bridge = n["Networks"]["bridge"]
        for old in ("IPAddress", "Gateway", "MacAddress", "IPPrefixLen", "EndpointID"):
            assert n.get(old, bridge[old]) == bridge[old] != "", (old, n.get(old), bridge[old])
        assert not a["Config"]["Labels"], a["Config"]["Labels"]


@call
def env_and_so_on():
    with Left() as left:
        c = left.container("sh -c 'echo $A; pwd; id -u; hostname; umask'", environment={"A": "b"}, working_dir="/tmp", user="1000", hostname="box", domainname="example.com")
        assert output(c).split()[:4] == ["b", "/tmp", "1000", "box"]


@call
def tty_and_stdin():
    with Left() as left:
        c = left.container("cat", tty=True, stdin_open=True)
        c.start()
        s = c.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1, "logs": 1})
        s._sock.send(b"line\n")
        assert b"line" in s._sock.recv(4096)
        s.close()
        c.resize(40, 120)


@call
def attach():
    with Left() as left:
        c = left.container("echo line")
        stream = c.attach(stream=True, logs=True)
        c.start()
        assert b"".join(stream) == b"line\n"


@call
def attach_demuxed():
    with Left() as left:
        c = left.container("sh -c 'echo out; echo err >&2'")
        stream = c.attach(stdout=True, stderr=True, logs=True, stream=True, demux=True)
        c.start()
        parts = list(stream)
        assert sorted(parts, key=str) == [(None, b"err\n"), (b"out\n", None)], parts


@call
def attach_by_websocket_url():
    fails(Exception, api.attach_socket, "nothing", ws=True)


@call
def logs():
    with Left() as left:
        c = left.container("sh -c 'echo one; echo two; echo three'")
        output(c)
        assert c.logs(tail=1) == b"three\n"
        assert c.logs(since=int(time.time()) + 100) == b""
        assert b"".join(c.logs(stream=True, follow=True)) == b"one\ntwo\nthree\n"
        assert b"Z one" in c.logs(timestamps=True)
        assert c.logs(until=1) == b""


@call
def life():
    with Left() as left:
        c = left.running("sleep 1000", init=True)
        c.pause()
        c.reload()
        assert c.status == "paused"
        c.unpause()
        c.restart(timeout=1)
        c.stop(timeout=1)
        c.reload()
        assert c.status == "exited"
        c.start()
        c.kill(signal=9)
        assert c.wait()["StatusCode"] == 137
        c.rename(name())


@call
def top_and_stats():
    with Left() as left:
        c = left.running()
        assert "sleep" in str(c.top(ps_args="waux"))
        assert c.stats(stream=False)["name"] == "/" + c.name
        assert next(c.stats(decode=True))["id"] == c.id
        assert "read" in api.stats(c.id, stream=False, one_shot=True)


@call
def update():
    with Left() as left:
        c = left.running()
        c.update(mem_limit="64m", memswap_limit="128m", cpu_shares=100)
        c.reload()
        assert c.attrs["HostConfig"]["Memory"] == 64 << 20
        c.update(restart_policy={"Name": "no"})


@call
def update_restart_policy():
    with Left() as left:
        c = left.running()
        c.update(restart_policy={"Name": "on-failure", "MaximumRetryCount": 2})
        c.reload()
        assert c.attrs["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}


@call
def files():
    with Left() as left:
        c = left.container("cat /tmp/file")
        c.put_archive("/tmp", archive(file="content"))
        stream, stat = c.get_archive("/tmp/file")
        assert stat["name"] == "file" and b"content" in b"".join(stream)
        assert output(c) == "content"
        assert {"Path": "/tmp/file", "Kind": 1} in c.diff()
        assert b"content" in b"".join(c.export())
        fails(docker.errors.NotFound, c.get_archive, "/nothing")


@call
def commands():
    with Left() as left:
        c = left.running()
        assert c.exec_run("echo hello") == (0, b"hello\n")
        assert c.exec_run("sh -c 'echo out; echo err >&2; exit 2'", demux=True) == (2, (b"out\n", b"err\n"))
        assert c.exec_run("sh -c 'echo $A; pwd; id -u'", environment={"A": "b"}, workdir="/tmp", user="1000").output.split() == [b"b", b"/tmp", b"1000"]
        e = api.exec_create(c.id, "cat", stdin=True, tty=True)
        s = api.exec_start(e, socket=True, tty=True)
        s._sock.send(b"line\n")
        assert b"line" in s._sock.recv(4096)
        api.exec_resize(e, 40, 120)
        assert api.exec_inspect(e)["Running"]
        s.close()
        e = api.exec_create(c.id, "true", detach_keys="ctrl-x,q")
        api.exec_start(e, detach=True)
        fails(docker.errors.NotFound, api.exec_inspect, "0" * 64)


@call
def privileged_command():
    with Left() as left:
        assert left.running().exec_run("echo hello", privileged=True) == (0, b"hello\n")


@call
def wait_until_removed():
    with Left() as left:
        c = left.container("true", auto_remove=True)
        c.start()
        c.wait(condition="removed")
        fails(docker.errors.NotFound, client.containers.get, c.id)


@call
def prune_containers():
    with Left() as left:
        mark = name()
        c = left.container("true", labels=[mark])
        assert client.containers.prune(filters={"label": mark})["ContainersDeleted"] == [c.id]


@call
def removal_with_link():
    with Left() as left:
        a = left.low("sleep 1000", name=name())
        api.start(a)
        other = api.inspect_container(a)["Name"][1:]
        alias = "alias" + name()[-4:]
        b = left.low("sleep 1000", {"links": {other: alias}}, name=name())
        api.start(b)
        own = api.inspect_container(b)["Name"][1:]
        assert api.inspect_container(b)["HostConfig"]["Links"] == [f"/{other}:/{own}/{alias}"], api.inspect_container(b)["HostConfig"]["Links"]
        api.remove_container(f"{own}/{alias}", link=True)


@call
def link_variables():
    with Left() as left:
        other = left.running(ports={"80/tcp": None}, environment={"B": "c"})
        c = left.container("env", links={other.name: "alias"})
        out = output(c)
        assert "ALIAS_PORT_80_TCP_PORT=80" in out and "ALIAS_ENV_B=c" in out and f"ALIAS_NAME=/{c.name}/alias" in out, out


# What a container is given.


@call
def ports():
    with Left() as left:
        c = left.running(ports={"80/tcp": None, "81/udp": 10081 + os.getpid() % 1000, "82/tcp": ("127.0.0.1", None)})
        c.reload()
        assert c.ports["80/tcp"][0]["HostPort"] and c.ports["81/udp"] and c.ports["82/tcp"]
        assert api.port(c.id, 80)


@call
def publish_all():
    with Left() as left:
        made = left.low("sleep 1000", {"publish_all_ports": True}, ports=[80])
        api.start(made)
        a = api.inspect_container(made)
        assert a["NetworkSettings"]["Ports"]["80/tcp"] and a["HostConfig"]["PublishAllPorts"], a["HostConfig"]["PublishAllPorts"]


@call
def volumes_named():
    with Left() as left:
        v = left.volume()
        c = left.container("sh -c 'echo x >/mnt/x'", volumes={v.name: {"bind": "/mnt", "mode": "rw"}})
        output(c)
        m = c.attrs["Mounts"][0]
        assert (m["Type"], m["Name"], m["Destination"], m["RW"]) == ("volume", v.name, "/mnt", True), m
        c = left.container("cat /mnt/x", volumes=[v.name + ":/mnt:ro"])
        assert output(c) == "x\n"
        assert c.attrs["HostConfig"]["Binds"] == [v.name + ":/mnt:ro"], c.attrs["HostConfig"]["Binds"]


@call
def volumes_anonymous():
    with Left() as left:
        c = left.container("true", volumes=["/mnt"])
        assert c.attrs["Config"]["Volumes"] == {"/mnt": {}}, c.attrs["Config"]["Volumes"]
        assert c.attrs["Mounts"][0]["Destination"] == "/mnt"


@call
def volumes_from():
    with Left() as left:
        a = left.container("true", volumes=["/one", "/two"])
        b = left.container("ls -d /one /two", volumes_from=[a.name])
        assert output(b) == "/one\n/two\n"
        assert b.attrs["HostConfig"]["VolumesFrom"] == [a.name], b.attrs["HostConfig"]["VolumesFrom"]
        left.container("true", volumes_from=[a.id + ":ro"])


@call
def mounts():
    with Left() as left:
        v = left.volume()
        c = left.container("sh -c 'grep -c /m /proc/mounts'", mounts=[
            Mount("/m1", v.name, type="volume", labels={"a": "b"}, no_copy=True), Mount("/m2", None, type="tmpfs", tmpfs_size="1m", tmpfs_mode=0o777),
            Mount("/m3", None, type="volume")])
        assert output(c) == "3\n"
        assert [m["Target"] for m in c.attrs["HostConfig"]["Mounts"]] == ["/m1", "/m2", "/m3"], c.attrs["HostConfig"]["Mounts"]


@call
def bind_of_the_machine():
    with Left() as left:
        output(left.container("ls /mnt", volumes={"/usr/share": {"bind": "/mnt", "mode": "ro"}}))


@call
def bind_of_localtime():
    with Left() as left:
        output(left.container("ls /etc/localtime", volumes={"/etc/localtime": {"bind": "/etc/localtime", "mode": "ro"}, "/etc/passwd": {"bind": "/etc/passwd", "mode": "ro"}}))


@call
def tmpfs():
    assert host_config(tmpfs=["/run", "/tmp:size=3M"])["Tmpfs"] == {"/run": "", "/tmp": "size=3M"}


@call
def volume_driver():
    assert host_config(volume_driver="local")["VolumeDriver"] == "local"


@call
def read_only():
    assert host_config(read_only=True)["ReadonlyRootfs"]


@call
def privileged():
    assert host_config(privileged=True)["Privileged"]


@call
def unprivileged_of_privileged():
    host_config(privileged=True)


@call
def default_capabilities():
    h = host_config(cap_drop=["ALL"], cap_add=["CHOWN", "CAP_NET_RAW"])
    assert [x.removeprefix("CAP_") for x in sorted(h["CapAdd"])] == ["NET_RAW", "CHOWN"] or len(h["CapAdd"]) == 2, h["CapAdd"]


@call
def more_capabilities():
    host_config(cap_add=["NET_ADMIN"])


@call
def ptrace():
    host_config(cap_add=["SYS_PTRACE"])


@call
def devices():
    host_config(devices=["/dev/null:/dev/null2:rwm"])


@call
def device_rules():
    host_config(device_cgroup_rules=["c 7:128 rwm"])


@call
def security_no_new_privileges():
    assert host_config(security_opt=["no-new-privileges"])["SecurityOpt"] == ["no-new-privileges"]


@call
def security_label_disable():
    host_config(security_opt=["label=disable"])


@call
def security_unconfined():
    host_config(security_opt=["seccomp=unconfined"])


@call
def sysctl_harmless():
    host_config(sysctls={"net.core.somaxconn": 1025, "net.ipv4.tcp_syncookies": "0"})


@call
def sysctl_of_memory():
    host_config(sysctls={"kernel.shmmax": "65536"})


@call
def runtime_runc():
    with Left() as left:
        output(left.container("true", runtime="runc"))


@call
def userns_host():
    host_config(userns_mode="host")


@call
def pid_host():
    host_config(pid_mode="host")


@call
def pid_of_a_container():
    with Left() as left:
        c = left.running("sleep 1234")
        other = left.container("ps", pid_mode="container:" + c.id)
        assert "1234" in output(other)


@call
def pid_of_no_container():
    err = fails(docker.errors.APIError, client.containers.create, IMAGE, pid_mode="container:nothing")
    assert "nothing" in err.explanation, err.explanation


@call
def ipc_modes():
    for mode in ("private", "shareable", "none"):
        assert host_config(ipc_mode=mode)["IpcMode"] == mode


@call
def ipc_host():
    host_config(ipc_mode="host")


@call
def uts_host():
    host_config(uts_mode="host")


@call
def cgroupns_private():
    with Left() as left:
        left.container("true", cgroupns="private")


@call
def cgroup_parent():
    host_config(cgroup_parent="/parent")


@call
def network_host():
    host_config(network_mode="host")


@call
def network_none():
    assert host_config(network_mode="none")["NetworkMode"] == "none"


@call
def network_of_a_container():
    with Left() as left:
        c = left.running()
        other = left.container("hostname -i", network_mode="container:" + c.name)
        assert output(other).strip() == c.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]


@call
def no_such_network():
    with Left() as left:
        def start():
            left.container("true", network="nothing-there").start()
        err = fails(docker.errors.APIError, start)
        assert err.status_code == 404 and "network nothing-there not found" in err.explanation, err.explanation


@call
def limits():
    h = host_config(mem_limit="64m", memswap_limit="128m", mem_reservation="32m", mem_swappiness=40, cpu_shares=512, cpu_period=100000, cpu_quota=50000, cpuset_cpus="0", pids_limit=100,
                    blkio_weight=300, shm_size="32m", oom_score_adj=500)
    assert (h["Memory"], h["CpuQuota"], h["PidsLimit"], h["ShmSize"]) == (64 << 20, 50000, 100, 32 << 20), h


@call
def nano_cpus():
    assert host_config(nano_cpus=500000000)["NanoCpus"] == 500000000


@call
def kernel_memory():
    with Left() as left:
        body = {"Image": IMAGE, "Cmd": ["true"], "HostConfig": {"KernelMemory": 1 << 26}}
        made = api.create_container_from_config(body)
        left.undo.append(lambda: api.remove_container(made, force=True))


@call
def ulimits():
    assert host_config(ulimits=[Ulimit(name="nofile", soft=1024, hard=2048)])["Ulimits"] == [{"Name": "nofile", "Soft": 1024, "Hard": 2048}]


@call
def ulimits_without_end():
    host_config(ulimits=[Ulimit(name="memlock", soft=-1, hard=-1)])


@call
def oom_kill_disable():
    host_config(oom_kill_disable=True)


@call
def storage_options():
    host_config(storage_opt={"size": "10G"})


@call
def groups():
    assert host_config(group_add=["1000", 1001])["GroupAdd"] == ["1000", "1001"]


@call
def extra_hosts():
    with Left() as left:
        c = left.container("cat /etc/hosts", extra_hosts={"db": "10.1.2.3"})
        assert "10.1.2.3\tdb" in output(c)
        assert "db:10.1.2.3" in c.attrs["HostConfig"]["ExtraHosts"]


@call
def name_servers():
    h = host_config(dns=["10.0.0.1"], dns_opt=["timeout:5"], dns_search=["example.com"])
    assert h["Dns"] == ["10.0.0.1"] and h["DnsSearch"] == ["example.com"]


@call
def restart_policies():
    assert host_config(restart_policy={"Name": "on-failure", "MaximumRetryCount": 2})["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}


@call
def restart_always():
    with Left() as left:
        c = left.running("sh -c 'sleep 1; false'", restart_policy={"Name": "always"})
        assert c.attrs["HostConfig"]["RestartPolicy"]["Name"] == "always", c.attrs["HostConfig"]["RestartPolicy"]


@call
def health():
    with Left() as left:
        c = left.running(healthcheck={"test": ["CMD-SHELL", "true"], "interval": 500000000, "timeout": 1000000000, "retries": 1, "start_period": 0})
        for _ in range(100):
            c.reload()
            if c.health == "healthy":
                return
            time.sleep(0.1)
        raise AssertionError(c.health)


@call
def stop_signal_and_timeout():
    with Left() as left:
        c = left.container("true", stop_signal="SIGUSR1")
        assert c.attrs["Config"]["StopSignal"] == "SIGUSR1"
        left.low("true", stop_timeout=3)


@call
def mac_address_and_platform():
    with Left() as left:
        c = left.running(mac_address="02:42:ac:11:65:43")
        assert c.attrs["NetworkSettings"]["Networks"]["bridge"]["MacAddress"] == "02:42:ac:11:65:43"
        left.container("true", platform="linux")


@call
def network_disabled():
    with Left() as left:
        output(left.container("true", network_disabled=True))


# Images.


@call
def list_of_images():
    assert IMAGE in [t for i in client.images.list() for t in i.tags]
    assert IMAGE in [t for i in client.images.list(name=IMAGE.split(":")[0]) for t in i.tags]
    assert client.images.list(filters={"dangling": True}) is not None
    assert api.images(quiet=True, all=True)


@call
def image():
    i = client.images.get(IMAGE)
    assert IMAGE in i.tags and i.history() and i.short_id
    assert not i.labels, i.labels
    fails(docker.errors.ImageNotFound, client.images.get, "nothing")


@call
def tag_and_remove():
    with Left() as left:
        repo = name()
        left.image(repo + ":1")
        assert client.images.get(IMAGE).tag(repo, tag="1", force=True)
        assert repo + ":1" in client.images.get(repo + ":1").tags
        client.images.remove(repo + ":1")
        fails(docker.errors.ImageNotFound, client.images.get, repo + ":1")


@call
def untag_of_a_shared_image():
    repo, tag = IMAGE.split(":")
    i = client.images.get(IMAGE)
    kept = name()
    i.tag(kept)
    client.images.remove(IMAGE)
    try:
        fails(docker.errors.ImageNotFound, client.images.get, IMAGE)
        assert IMAGE not in [t for x in client.images.list() for t in x.tags]
    finally:
        client.images.get(kept).tag(repo, tag)
        client.images.remove(kept)
    client.images.get(IMAGE)


@call
def save_and_load():
    with Left() as left:
        tag = left.image(name() + ":1")
        client.images.get(IMAGE).tag(tag)
        tar = b"".join(client.images.get(tag).save(named=True))
        client.images.remove(tag)
        assert tag in client.images.load(tar)[0].tags


@call
def commit():
    with Left() as left:
        c = left.container("sh -c 'echo x >/x'")
        output(c)
        repo = name()
        left.image(repo + ":1")
        i = c.commit(repository=repo, tag="1", message="of a test", author="me", conf={"Cmd": ["cat", "/x"]}, changes=["ENV A=b"])
        assert i.tags == [repo + ":1"], i.tags
        assert client.containers.run(repo + ":1", remove=True) == b"x\n"


@call
def import_of_a_tar():
    with Left() as left:
        repo = name()
        left.image(repo + ":1")
        api.import_image_from_data(archive(file="x"), repository=repo, tag="1", changes=["CMD true"])
        assert client.images.get(repo + ":1")


@call
def import_by_address():
    err = fails(docker.errors.APIError, api.import_image_from_url, "http://127.0.0.1:1/nothing", repository=name())
    assert "refused" in err.explanation, err


@call
def prune_images():
    client.images.prune(filters={"dangling": True, "label": name()})


@call
def build():
    with Left() as left:
        tag = left.image(name() + ":1")
        i, log = client.images.build(fileobj=io.BytesIO(f"FROM {IMAGE}\nARG A\nLABEL b=c\nRUN echo $A >/a\nCMD cat /a".encode()), tag=tag, buildargs={"A": "b"}, labels={"d": "e"}, rm=True, nocache=True, quiet=False,
                                     pull=False, forcerm=True, cache_from=[IMAGE], target="", shmsize=1 << 26, extra_hosts={"db": "10.1.2.3"}, container_limits={"memory": 1 << 28, "cpushares": 100},
                                     network_mode="bridge")
        assert client.containers.run(tag, remove=True) == b"b\n"
        assert i.labels == {"b": "c", "d": "e"}, i.labels
        assert any("Successfully built" in x.get("stream", "") for x in log)


@call
def build_of_a_folder():
    with Left() as left, tempfile.TemporaryDirectory() as dir, tempfile.TemporaryDirectory() as other:
        with open(os.path.join(dir, "Dockerfile"), "w") as f:
            f.write(f"FROM {IMAGE}\nCOPY . /ctx\nRUN ls /ctx >/list\n")
        for f in ("kept", "ignored"):
            open(os.path.join(dir, f), "w").close()
        with open(os.path.join(dir, ".dockerignore"), "w") as f:
            f.write("ignored\nDockerfile\n.dockerignore\n")
        tag = left.image(name() + ":1")
        client.images.build(path=dir, tag=tag)
        assert client.containers.run(tag, "cat /list", remove=True) == b"kept\n"
        elsewhere = os.path.join(other, "Dockerfile.other")
        with open(elsewhere, "w") as f:
            f.write(f"FROM {IMAGE}\nCOPY kept /\nRUN echo elsewhere >/where\n")
        client.images.build(path=dir, dockerfile=elsewhere, tag=tag, gzip=True)
        assert client.containers.run(tag, "cat /where", remove=True) == b"elsewhere\n"


@call
def build_that_fails():
    err = fails(docker.errors.BuildError, client.images.build, fileobj=io.BytesIO(f"FROM {IMAGE}\nRUN exit 3".encode()), rm=True, forcerm=True)
    assert "returned a non-zero code: 3" in str(err), err


@call
def build_squashed():
    client.images.build(fileobj=io.BytesIO(f"FROM {IMAGE}\n".encode()), squash=True)


@call
def build_with_isolation():
    with Left() as left:
        tag = left.image(name() + ":1")
        client.images.build(fileobj=io.BytesIO(f"FROM {IMAGE}\n".encode()), tag=tag, isolation="default", platform="linux")
        fails(docker.errors.APIError, client.images.build, fileobj=io.BytesIO(f"FROM {IMAGE}\n".encode()), isolation="invalid-isolation")


@call
def build_on_the_host_network():
    client.images.build(fileobj=io.BytesIO(f"FROM {IMAGE}\nRUN true".encode()), network_mode="host", nocache=True)


@call
def prune_builds():
    assert "SpaceReclaimed" in api.prune_builds(filters={"unused-for": "1h"}, keep_storage=1, all=True)


@call
def pull_of_nothing():
    err = fails(docker.errors.APIError, client.images.pull, "127.0.0.1:1/nothing", tag="1", all_tags=False)
    assert "refused" in err.explanation, err


@call
def push_of_nothing():
    out = client.images.push("127.0.0.1:1/" + name())
    assert "not exist" in out or "does not exist" in out, out


@call
def registry_data():
    err = fails(docker.errors.APIError, client.images.get_registry_data, "127.0.0.1:1/nothing")
    assert "refused" in err.explanation, err


@call
def login():
    err = fails(docker.errors.APIError, client.login, "me", "secret", registry="127.0.0.1:1")
    assert "refused" in err.explanation, err


# Networks.


@call
def network():
    with Left() as left:
        n = left.network(driver="bridge", labels={"a": "b"}, check_duplicate=True, internal=False, attachable=True, scope="local", options={"com.docker.network.driver.mtu": "1400"})
        assert n.attrs["Labels"] == {"a": "b"} and n.attrs["Name"] == n.name and n.attrs["Scope"] == "local", n.attrs
        assert n.attrs["Options"] == {"com.docker.network.driver.mtu": "1400"}, n.attrs["Options"]
        assert [x.id for x in client.networks.list(names=[n.name])] == [n.id]
        assert [x.id for x in client.networks.list(ids=[n.id])] == [n.id]
        assert n.id in [x.id for x in client.networks.list(filters={"driver": "bridge"}, greedy=True)]


@call
def network_with_a_subnet():
    with Left() as left:
        n = left.network(ipam=IPAMConfig(driver="default", pool_configs=[IPAMPool(subnet="172.31.240.0/24", iprange="172.31.240.128/25", gateway="172.31.240.254", aux_addresses={"a": "172.31.240.3"})]))
        c = left.container("sleep 1000")
        n.connect(c, ipv4_address="172.31.240.10", aliases=["foo"], links=[])
        c.start()
        c.reload()
        assert c.attrs["NetworkSettings"]["Networks"][n.name]["IPAddress"] == "172.31.240.10"
        n.disconnect(c, force=True)


@call
def network_with_a_fixed_subnet():
    with Left() as left:
        left.network(ipam=IPAMConfig(pool_configs=[IPAMPool(subnet="10.5.0.0/16"),]))


@call
def network_with_ipv6():
    with Left() as left:
        n = left.network(enable_ipv6=True, ipam=IPAMConfig(pool_configs=[IPAMPool(subnet="2001:389::/64", gateway="2001:389::1")]))
        c = left.container("true")
        n.connect(c, ipv6_address="2001:389::10")


@call
def network_with_a_driver_of_ipam():
    with Left() as left:
        left.network(ipam=IPAMConfig(driver="default", options={"com.docker.network.any": "1"}))


@call
def network_with_a_space_in_its_name():
    n = client.networks.create(name() + " with a space")
    try:
        assert client.networks.get(n.id).name == n.name
    finally:
        n.remove()


@call
def network_connect():
    with Left() as left:
        n = left.network()
        c = left.running()
        n.connect(c)
        c.reload()
        n.reload()
        assert n.name in c.attrs["NetworkSettings"]["Networks"]
        assert [x.id for x in n.containers] == [c.id]
        fails(docker.errors.APIError, n.connect, c)
        n.disconnect(c)


@call
def network_links():
    with Left() as left:
        n = left.network()
        a = left.running(network=n.name)
        b = left.running()
        n.connect(b, links={a.name: "bar"})
        assert b.exec_run("ping -c 1 bar").exit_code == 0


@call
def network_prune():
    with Left() as left:
        mark = name()
        n = left.network(labels={mark: ""})
        assert client.networks.prune(filters={"label": mark})["NetworksDeleted"] == [n.name]


@call
def network_of_other_drivers():
    with Left() as left:
        left.network(driver="macvlan")


@call
def network_predefined():
    assert client.networks.get("bridge").name == "bridge"
    names = [n.name for n in client.networks.list()]
    assert "host" in names and "none" in names, names
    fails(docker.errors.APIError, client.networks.get("bridge").remove)


# Volumes.


@call
def volume():
    with Left() as left:
        v = left.volume(driver="local", labels={"a": "b"})
        assert v.attrs["Driver"] == "local" and v.attrs["Labels"] == {"a": "b"}, v.attrs
        assert v.name in [x.name for x in client.volumes.list(filters={"dangling": True})]
        assert client.volumes.get(v.name).id == v.name
        fails(docker.errors.NotFound, client.volumes.get, "nothing")


@call
def volume_without_a_name():
    v = client.volumes.create()
    assert len(v.name) == 64
    v.remove()


@call
def volume_in_memory():
    with Left() as left:
        v = left.volume(driver="local", driver_opts={"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000"})
        assert v.attrs["Options"]["type"] == "tmpfs", v.attrs
        assert "tmpfs" in output(left.container("grep /mnt /proc/mounts", volumes=[v.name + ":/mnt"]))


@call
def volume_of_a_bind():
    with Left() as left:
        v = left.volume(driver="local", driver_opts={"type": "none", "device": "/usr/share", "o": "bind"})
        output(left.container("ls /mnt", volumes=[v.name + ":/mnt"]))


@call
def volume_prune():
    with Left() as left:
        mark = name()
        v = left.volume(labels={mark: ""})
        assert client.volumes.prune(filters={"label": mark})["VolumesDeleted"] == [v.name]


@call
def volume_in_use():
    with Left() as left:
        v = left.volume()
        c = left.container("true", volumes=[v.name + ":/mnt"])
        err = fails(docker.errors.APIError, v.remove)
        assert err.status_code == 409 and err.explanation == f"remove {v.name}: volume is in use - [{c.id}]", err.explanation


# What is of swarms and plugins.


@call
def no_swarm():
    for f in (api.services, api.nodes, api.tasks, api.secrets, api.configs, api.inspect_swarm):
        err = fails(docker.errors.APIError, f)
        assert err.status_code == 503 and "This node is not a swarm manager" in err.explanation, err
    assert fails(docker.errors.APIError, client.swarm.leave).status_code == 503


@call
def plugins():
    assert client.plugins.list() == []
    fails(docker.errors.NotFound, client.plugins.get, "nothing")


def late(*_):
    raise TimeoutError("it takes longer than a minute")


def main():
    signal.signal(signal.SIGALRM, late)
    for f in table:
        signal.alarm(60)
        try:
            f()
        except Exception as err:  # whatever a call ends with is what is looked for
            text = " ".join(f"{type(err).__name__}: {err}".split())
            print(f"not ok {f.__name__}: {text}", flush=True)
        else:
            print(f"ok {f.__name__}", flush=True)


main()
