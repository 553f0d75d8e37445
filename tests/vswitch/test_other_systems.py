"""Another system: what only Linux has is taken out of Python, in a process of its own."""

import subprocess
import sys
import textwrap

PROGRAM = textwrap.dedent(
    """
    import contextlib, io, os, select, socket, sys, time
    from functools import partial
    from pathlib import Path

    import trio

    # Trio itself runs on Linux here, and has bound what it needs of it.
    for module, names in {
        os: "eventfd memfd_create pidfd_open sched_getaffinity setns splice unshare",
        socket: "AF_NETLINK AF_PACKET MSG_ERRQUEUE NETLINK_ROUTE SO_BINDTODEVICE SO_PEERCRED "
        "SOCK_CLOEXEC SOCK_NONBLOCK TCP_KEEPIDLE TCP_USER_TIMEOUT",
        time: "CLOCK_BOOTTIME",
    }.items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    sys.platform = "freebsd14"
    sys.modules["pyroute2"] = None  # an import of it fails

    import vswitch
    from transport.endpoint.kernel import KERNEL, Portable
    from vswitch.cli import main

    assert isinstance(KERNEL, Portable)
    state = Path(sys.argv[1])

    def command(*arguments):
        code = main([*arguments, "--state", str(state)])
        assert code == 0, (arguments, code)

    def invited(name, to):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            command("invite", name, "--public", to)
        return said.getvalue().strip()

    async def all_of_it():
        del select.epoll  # Trio has got its own
        async with trio.open_nursery() as nursery:
            config = vswitch.ServeConfig(state=state, listen=("127.0.0.1:0", "127.0.0.1:0"))
            running = await nursery.start(vswitch.serve, config)
            ports = []
            for name, listen in zip(("one", "two"), running.listens, strict=True):
                where = f"{listen.host}:{listen.port}"
                string = await trio.to_thread.run_sync(invited, name, where)
                joining = vswitch.JoinConfig(name=name, state=state / name, invite=string)
                interface = vswitch.ProgramInterface()
                await nursery.start(
                    partial(vswitch.join, joining, open_interface=interface.open)
                )
                ports.append(interface.port)
            frame = bytes.fromhex("ffffffffffff 020000000001 88b5") + bytes(50)
            await ports[0].send(frame)
            while await ports[1].receive_frame() != frame:
                pass
            await trio.to_thread.run_sync(invited, "three", "192.0.2.1")
            for words in (["status"], ["members"], ["revoke", "three"]):
                await trio.to_thread.run_sync(command, *words)
            try:
                async with vswitch.open_tap(vswitch.TapConfig(name="vsw9", mtu=1500)):
                    raise AssertionError("a TAP on another system")
            except vswitch.VswitchError as error:
                assert "needs Linux" in str(error)
            nursery.cancel_scope.cancel()

    assert main(["genkey", str(state.parent / "a.key")]) == 0
    async def bounded():
        with trio.fail_after(60):
            await all_of_it()

    trio.run(bounded)
    print("all of it")
    """
)


def test_a_switch_and_members_without_a_tap_need_nothing_that_only_linux_has(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "state"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("all of it\n")
