#!/bin/bash
# Registers the default kernel, enables the service that runs JupyterLab as the instance's owner,
# and checks that both work. The server's settings are in the template's files.
#
#   JUPYTER       environment of the server
#   KERNEL        environment of the default kernel
#   KERNEL_NAME   what the launcher calls it
set -euo pipefail

: "${JUPYTER:?}" "${KERNEL:?}" "${KERNEL_NAME:?}"

fail() {
    echo "configure-jupyter: $*" >&2
    exit 1
}

# Under the name python3 it replaces the server's own kernel, which has no scientific packages.
"$KERNEL/bin/python" -m ipykernel install --prefix "$JUPYTER" --name python3 --display-name "$KERNEL_NAME"
ln -sfn "$KERNEL/bin/ipython" /usr/local/bin/ipython

kernels=$("$JUPYTER/bin/jupyter" kernelspec list --json)
python3 - "$KERNEL/bin/python" 3<<<"$kernels" <<'PYTHON' || fail "the default kernel is not the one of $KERNEL"
import json
import os
import sys

with os.fdopen(3) as file:
    spec = json.load(file)["kernelspecs"]["python3"]["spec"]
sys.exit(spec["argv"][0] != sys.argv[1])
PYTHON
"$KERNEL/bin/python" -c 'import h5py, ipykernel, matplotlib, numpy, pandas, scipy; print("numpy", numpy.__version__)'

echo "JupyterLab $("$JUPYTER/bin/jupyter" lab --version)"
"$JUPYTER/bin/python" -m py_compile "$JUPYTER/etc/jupyter/visa_server_config.py" ||
    fail "visa_server_config.py is not Python"
rm -rf "$JUPYTER/etc/jupyter/__pycache__"

systemctl enable visa-jupyter.service
