# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Nothing that the package does asks the network."""

import socket
import subprocess
import sys

import pytest

# In a process of its own, where no library has been loaded before.
CODE = """
import socket, sys

def refuse(*arguments, **keywords):
    raise SystemExit(f'the network was asked: {arguments}')

# what every library comes by
for name in ('connect', 'connect_ex', 'sendto', 'bind'):
    setattr(socket, 'socket', type('socket', (socket.socket,), {name: refuse}))
socket.create_connection = socket.getaddrinfo = socket.gethostbyname = refuse

from pathlib import Path
import astroflux
from astroflux.cli import main
from astroflux.cutouts import write_cutout
from astroflux.datasets import load_demo

cutouts, truth = load_demo()
folder = Path(sys.argv[1])
write_cutout(cutouts[0], folder / 'a.fits')
for name in ('CNNFluxEstimator', 'KronFluxEstimator'):
    getattr(astroflux, name)().measure(folder / 'a.fits')
astroflux.CNNFluxEstimator().save(folder / 'w.safetensors')
astroflux.CNNFluxEstimator.load(folder / 'w.safetensors').predict(cutouts[0])
main(['measure', str(folder / 'a.fits'), '-o', str(folder / 't.ecsv')], standalone_mode=False)
assert (folder / 't.ecsv').exists()
try:
    socket.socket().connect(('127.0.0.1', 9))
except SystemExit:
    print('guarded')
"""


def test_no_socket_is_opened(tmp_path):
    command = [sys.executable, '-c', CODE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # the guard itself works
    assert done.stdout.splitlines()[-1] == 'guarded'


def test_tests_have_no_network():
    # pytest-remotedata refuses it to all tests
    with socket.socket() as each, pytest.raises(OSError, match='connect to the internet'):
        each.connect(('192.0.2.1', 80))  # an address of documentation
