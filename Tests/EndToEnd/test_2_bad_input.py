"""What is wrong is said, with what to do, and nothing is left behind."""

import os
import socket
import subprocess

from conftest import CLUSTER, Operator


def links(operator):
    return operator.ok("ip", "-o", "link")


def test_an_unknown_flag_is_a_usage_error(operator):
    done = operator.run("martlet", "install", "--nope")
    assert done.returncode == 64 and "--nope" in done.stderr
    done = operator.run("martlet", "lab", "create", CLUSTER, "--nope")
    assert done.returncode != 0 and "--nope" in done.stderr


def test_a_setting_that_nothing_honours_is_refused(operator):
    operator.refused("martlet", "install", "-y", "--set", "values.nope=1", saying="values.nope")
    operator.refused("martlet", "install", "-y", "--set", "profile=nope", saying="profile")


def test_a_lab_flag_that_cannot_be_honoured_is_refused(operator):
    before = links(operator)
    operator.refused("martlet", "lab", "create", CLUSTER, "--servers", "3", saying="--servers")
    operator.refused("martlet", "lab", "create", CLUSTER, "--k3s-arg", "--flannel-backend=wireguard@server:*", saying="--k3s-arg")
    assert links(operator) == before


def test_a_busy_api_port_is_said_and_nothing_stays(operator):
    before = links(operator)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        operator.refused("martlet", "lab", "create", CLUSTER, "--agents", "1", "--api-port", port, saying=str(port))
    assert links(operator) == before


def test_a_subnet_that_is_in_use_is_said_and_nothing_stays(operator):
    operator.ok("ip", "link", "add", "mlt-taken", "type", "veth", "peer", "name", "mlt-taken-peer")
    try:
        operator.ok("ip", "address", "add", "10.99.8.1/24", "dev", "mlt-taken")
        operator.ok("ip", "link", "set", "mlt-taken", "up")
        before = links(operator)
        said = operator.refused("martlet", "lab", "create", CLUSTER, "--subnet", "10.99.0.0/16", saying="10.99.8.0/24")
        assert "mlt-taken" in said and "--subnet" in said, said
        # A part of the cluster's own networks is no better, whatever the subnet.
        operator.ok("ip", "route", "add", "10.42.7.0/24", "dev", "mlt-taken")
        operator.refused("martlet", "lab", "create", CLUSTER, saying="10.42.7.0/24")
        assert links(operator) == before
        assert not os.path.exists(f"/var/lib/martlet/lab/{CLUSTER}") and not os.path.exists(f"/run/martlet/lab/{CLUSTER}")
    finally:
        operator.ok("ip", "link", "delete", "mlt-taken")


def test_without_root_the_lab_says_so(operator):
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "martlet", "lab", "create", CLUSTER],
        env=operator.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "root" in done.stderr, done.stderr


def test_without_a_cluster_the_cli_says_what_to_do(operator, tmp_path):
    lonely = Operator(tmp_path)
    done = lonely.run("martlet", "install", "-y")
    assert done.returncode == 1 and "lab create" in done.stderr, done.stderr


def test_verify_install_without_a_selector_of_what_to_remove(operator):
    operator.refused("martlet", "uninstall", "-y", saying="--purge")
