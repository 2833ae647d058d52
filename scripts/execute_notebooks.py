"""Execute the notebooks, each in a new kernel, and write their outputs back, small and without traces of this machine.

    python scripts/execute_notebooks.py                     # all of notebooks/
    python scripts/execute_notebooks.py notebooks/02*.ipynb

A notebook is not written if it has an error, a warning or an absolute path in its outputs, or more than 300 kB. As in
the tests, public catalogues are looked for in the folder named by MASSMAP_TEST_DATA, which takes the place of `DATA`
while a notebook runs. Needs the extra `notebooks`.
"""

import base64
import io
import os
import re
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
MOST_BYTES = 300_000
SECONDS = 600
_DATA = 'DATA = Path("data")'
# A path from the root or from a home folder, but not the fractions and URLs in a text.
_PATH = re.compile(r"(?<![\w./:)\]$<])(?:~|/(?!/)[\w.-]+)/[\w.-]+|[A-Z]:\\\w")


def problems(notebook: dict) -> list[str]:
    """Return the reasons why an executed notebook must not be committed, one line each."""
    found = []
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code":
            continue
        where = f"cell {number}"
        if cell["source"] and cell["execution_count"] is None:
            found.append(f"{where} was not executed")
        if "execution" in cell["metadata"]:
            found.append(f"{where} holds the times at which it ran")
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                found.append(f"{where} ends in {output['ename']}: {output['evalue']}")
                continue
            text = "".join(output.get("text") or output.get("data", {}).get("text/plain", ""))
            if output.get("name") == "stderr":
                found.append(f"{where} warns: {text.strip()[:200]}")
            found += [f"{where} names the path {path!r}" for path in _PATH.findall(text)]
    return found


def _with_few_colours(png: str) -> str:
    """Return the same image with a palette of 256 colours, which needs a third of the bytes."""
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    small = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def _joined(outputs):
    """Return the outputs with consecutive pieces of the same stream joined."""
    joined = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream" and output.name == joined[-1].name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _tidy(notebook) -> None:
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata.pop("execution", None)
        cell.outputs = _joined(cell.outputs)
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _with_few_colours(output.data["image/png"])
                output.data["text/plain"] = "<Figure>"
                output.metadata = {}
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}


def execute(path: Path) -> list[str]:
    """Execute one notebook and write it back if nothing is wrong with it; returns what is wrong."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    written = [cell.source for cell in notebook.cells]
    if data := os.environ.get("MASSMAP_TEST_DATA"):
        for cell in notebook.cells:
            cell.source = cell.source.replace(_DATA, f"DATA = Path({data!r})")
    start = time.perf_counter()
    client = NotebookClient(notebook, timeout=SECONDS, allow_errors=True, resources={"metadata": {"path": path.parent}})
    client.execute()
    seconds = time.perf_counter() - start
    for cell, source in zip(notebook.cells, written, strict=True):
        cell.source = source
    _tidy(notebook)
    nbformat.validate(notebook)
    found = problems(notebook)
    size = len(nbformat.writes(notebook).encode())
    if size > MOST_BYTES:
        found.append(f"{size:,} bytes are more than {MOST_BYTES:,}: draw fewer or smaller figures")
    print(f"{path.name}: {seconds:.0f} s, {size:,} bytes" + "".join(f"\n  {line}" for line in found))
    if not found:
        nbformat.write(notebook, path)
    return found


def main():
    paths = [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb"))
    failed = [path for path in paths if execute(path)]
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
