"""Runs the notebook on standard input in Deno's kernel; writes it, with its outputs, to standard output."""

import queue
import sys

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError


async def take_late_outputs(cell, cell_index, execute_reply):
    """Deno's kernel may say that it is idle some milliseconds before it sends a cell's last outputs."""
    request = execute_reply["parent_header"]["msg_id"]
    while True:
        try:
            message = await client.kc.get_iopub_msg(timeout=0.2)
        except queue.Empty:
            return
        if message["parent_header"].get("msg_id") == request:
            client.process_message(message, cell, cell_index)


notebook = nbformat.reads(sys.stdin.read(), as_version=4)
client = NotebookClient(
    notebook, timeout=None, kernel_name="deno", record_timing=False, on_cell_executed=take_late_outputs
)
try:
    client.execute()
except (CellExecutionError, DeadKernelError) as error:
    sys.exit(str(error))
sys.stdout.write(nbformat.writes(notebook) + "\n")
