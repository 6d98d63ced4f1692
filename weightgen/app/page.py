"""The page: its tabs, its looks, and the server that serves it on this machine."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from weightgen.app.cards import CSS
from weightgen.app.characters_tab import add_characters_tab
from weightgen.app.drawing import Draughtsman
from weightgen.app.examples_tab import add_examples_tab
from weightgen.app.question_tab import add_question_tab
from weightgen.app.security import is_loopback, middleware
from weightgen.app.uploads import MAX_MEGABYTES
from weightgen.data.photos.photographs import photograph_paths
from weightgen.errors import InputError, check_sizes
from weightgen.pipelines.known_questions import KnownQuestions
from weightgen.pipelines.weight_pipeline import WeightPipeline

TITLE = "weightgen"
LEAD = "Ask a question, get a classifier: its weights are written from the sentence, without a gradient step."
STYLE = (
    CSS
    + """
.gradio-container { width: 100% !important; max-width: 76rem !important; margin: 0 auto !important; }
.gradio-container .or { color: var(--body-text-color); }
.grid-wrap { padding-top: 2.2rem !important; }
#title h1 { margin-bottom: .1rem; }
#title p { margin-top: 0; color: var(--body-text-color); }
"""
)


def build_page(pipe: WeightPipeline, draughtsman: Draughtsman | None = None) -> tuple[gr.Blocks, list[str]]:
    """The page, not yet served.

    Args:
        pipe: the pipeline that it shows.
        draughtsman: for the third tab; without it there is none.

    Returns:
        The page, and the files outside the temporary folder that it shows.
    """
    try:
        examples = [str(path) for path in photograph_paths()]
    except InputError:  # without the extra `photos` there are no examples to add
        examples = []
    known = KnownQuestions.shipped(pipe)
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"# {TITLE}\n{LEAD}", elem_id="title")
        with gr.Tab("Ask a question", id="ask"):
            add_question_tab(pipe, known, examples)
        with gr.Tab("Few examples", id="examples"):
            add_examples_tab(pipe, examples)
        if draughtsman is not None:
            with gr.Tab("Drawn characters", id="characters"):
                add_characters_tab(draughtsman)
    return page, examples


@contextmanager
def served(
    pipe: WeightPipeline,
    host: str = "127.0.0.1",
    port: int = 7860,
    draughtsman: Draughtsman | None = None,
) -> Iterator[str]:
    """Serve the page while the context is open; what was uploaded is removed at its end.

    Args:
        pipe: the pipeline that it shows.
        host: the address to listen on; by default none but this machine can connect.
        port: the port; 0 takes a free one.
        draughtsman: for the third tab.

    Yields:
        The address of the page.

    Raises:
        InputError: nothing can listen there.
    """
    port = check_address(host, port)
    with tempfile.TemporaryDirectory(prefix="weightgen-app-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        page, files = build_page(pipe, draughtsman)
        try:
            _, address, _ = page.launch(**options(host, port), allowed_paths=files)
        except OSError as error:
            raise InputError(f"the page cannot be served on {host}:{port}: {error}") from error
        try:
            yield address
        finally:
            page.close(verbose=False)


def options(host: str, port: int) -> dict[str, Any]:
    """How Gradio serves: here, and with nothing that asks or tells anyone else."""
    fonts = ("Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")  # of the visitor's machine
    theme = gr.themes.Default(primary_hue="blue", neutral_hue="gray", radius_size="lg", font=fonts)
    theme.set(
        button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700"
    )
    return {
        "server_name": host,
        "server_port": port,
        "share": False,
        "mcp_server": False,
        "ssr_mode": False,
        "enable_monitoring": False,
        "pwa": False,
        "run_history": False,
        "footer_links": [],
        "quiet": True,
        "prevent_thread_lock": True,
        "max_file_size": MAX_MEGABYTES * 2**20,
        "app_kwargs": {"middleware": middleware(host)},
        "theme": theme,
        "css": STYLE,
    }


def check_address(host: str, port: int) -> int:
    """A port where the page can listen: the given one, or a free one for 0.

    Raises:
        InputError: no such address, or the port is taken.
    """
    check_sizes(0, 65535, port=port)
    try:
        kind = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind[0], kind[1]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(kind[4])
            return int(probe.getsockname()[1])
    except OSError as error:
        raise InputError(
            f"the page cannot be served on {host}:{port}: {error.strerror or error}; choose another --port or --host"
        ) from error


def serve(pipe: WeightPipeline, host: str, port: int, draughtsman: Draughtsman | None = None) -> None:
    """Serve the page until Ctrl-C, or until the process is asked to end; see `served`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that uploads are removed then too
    with served(pipe, host, port, draughtsman) as address:
        print(f"{TITLE} is open in your browser at {address} — Ctrl-C ends it", flush=True)
        if not is_loopback(host):
            print(f"warning: whoever reaches this machine on {host} can use the page", file=sys.stderr)
        wait()


def wait() -> None:
    """Wait until Ctrl-C."""
    threading.Event().wait()
