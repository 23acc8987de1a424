"""Reads an SBOM by the tools of its form's own project and prints what is wrong with it, a line each.

    check.py spdx|cyclonedx FILE
"""

import json
import sys

from packageurl import PackageURL


def spdx(path):
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    document = parse_file(path)
    for message in validate_full_spdx_document(document):
        yield message.validation_message
    for package in document.packages:
        for reference in package.external_references:
            yield from purl(reference.locator)


def cyclonedx(path):
    from cyclonedx.model.bom import Bom
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    with open(path, encoding="utf-8") as file:
        text = file.read()
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        yield repr(error)
    bom = Bom.from_json(json.loads(text))
    if not bom.validate():
        yield "the library's own model is not valid"
    for component in json.loads(text)["components"]:
        yield from purl(component["purl"])


def purl(text):
    """A package URL must be what its own parts are written as."""
    canonical = PackageURL.from_string(text).to_string()
    if canonical != text:
        yield f"{text} is written {canonical}"


problems = list({"spdx": spdx, "cyclonedx": cyclonedx}[sys.argv[1]](sys.argv[2]))
print("\n".join(problems))
sys.exit(1 if problems else 0)
