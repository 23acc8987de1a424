"""packme's own results, for tests/packme.rs: one process for all projects.

Standard input is a list of {"folder", "environment", "templates"}. Standard output is {"projects": [{TEMPLATE: {"text"}
or {"error"}}], "expressions": [[EXPRESSION, RESULT or null]], "variables": {}}.
"""

import contextlib
import io
import json
import os
import sys

import jinja2
from packme import Packman

from expressions import EXPRESSIONS, VARIABLES


def manifests(project):
    """What packme writes for each template, or how it ends."""
    os.chdir(project["folder"])
    os.environ.clear()
    os.environ.update(project["environment"])
    results = {}
    for name in project["templates"]:
        file = os.path.join("templates", name, "manifest.json")
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                packman = Packman.Packman("config.yml")
                packman.build(selected_templates=[name], indent=4, separators=(",", ": "))
            with open(file, encoding="utf-8") as text:
                results[name] = {"text": text.read()}
        except SystemExit:
            results[name] = {"error": said.getvalue().strip()}
        except Exception as error:
            results[name] = {"error": f"{type(error).__name__}: {error}"}
        # What is next to write it must not find it.
        with contextlib.suppress(FileNotFoundError):
            os.remove(file)
    return results


def rendered(expression):
    """Jinja2's result; None where it refuses."""
    try:
        # packme renders a whole manifest, of which no string is the end.
        return jinja2.Environment(keep_trailing_newline=True).from_string(expression).render(**VARIABLES)
    except Exception:
        return None


print(
    json.dumps(
        {
            "projects": [manifests(project) for project in json.load(sys.stdin)],
            "expressions": [[expression, rendered(expression)] for expression in EXPRESSIONS],
            "variables": VARIABLES,
        }
    )
)
