"""Makes the folder that each test copies: databases, keys and configuration of Keystone and Glance.

Usage: prepare_state.py FOLDER, run by the Python of the virtual environment that has both.

facts.json in the folder holds the ids that Keystone chose.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAMS = Path(sys.prefix) / "bin"
REGION = "RegionOne"
ADMIN_PASSWORD = "admin-Passw0rd"
# Names of users, with their roles in projects.
USERS = {
    "builder": {"visa": "member", "other": "member"},
    "reader": {"visa": "reader"},
    "nobody": {},
    "glance": {"service": "admin"},
}
PROJECTS = ["visa", "other", "service"]
SERVICES = {"image": "glance", "compute": "stub"}
APPLICATION_CREDENTIAL = {"name": "visabuild", "secret": "application-credential-Secr3t"}
# Glance asks for all of these; its sizes are in MiB. Tests lower them for a project.
LIMITS = ["image_size_total", "image_stage_total", "image_count_total", "image_count_uploading"]
PLENTY = 1_000_000
# catalogue.py puts the real one in.
NO_URL = "http://not-yet.invalid"


def manage(program, folder, configuration, *arguments):
    """Runs keystone-manage or glance-manage in its service's folder."""
    command = [sys.executable, PROGRAMS / program, "--config-file", configuration, *arguments]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{program} {arguments[0]} failed:\n{done.stdout}")


def install_configuration(folder):
    for service, name in (("keystone", "keystone.conf"), ("glance", "glance-api.conf")):
        (folder / service).mkdir(parents=True)
        for file in (name, "gunicorn.conf.py"):
            shutil.copy(HERE / "services" / file, folder / service)
    shutil.copy(Path(sys.prefix) / "etc/glance/glance-api-paste.ini", folder / "glance")
    for store in ("store", "staging", "tasks"):
        (folder / "glance" / store).mkdir()


def make_databases(folder):
    owner = ["--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid())]
    keystone = folder / "keystone"
    manage("keystone-manage", keystone, "keystone.conf", "db_sync")
    (keystone / "fernet-keys").mkdir(mode=0o700)
    manage("keystone-manage", keystone, "keystone.conf", "fernet_setup", *owner)
    urls = [f"--bootstrap-{interface}-url={NO_URL}" for interface in ("public", "internal")]
    password = f"--bootstrap-password={ADMIN_PASSWORD}"
    manage("keystone-manage", keystone, "keystone.conf", "bootstrap", password, f"--bootstrap-region-id={REGION}", *urls)
    manage("glance-manage", folder / "glance", "glance-api.conf", "db_sync")
    for database in ("keystone/keystone.sqlite", "glance/glance.sqlite"):
        with sqlite3.connect(folder / database) as connection:
            # Readers and the writer do not wait for each other. It is a property of the file.
            connection.execute("PRAGMA journal_mode = WAL")
        connection.close()


class Identity:
    """Keystone's API, called in this process."""

    def __init__(self):
        from keystone.wsgi.api import application
        from werkzeug.test import Client

        self.client = Client(application)
        self.token = None

    def call(self, method, path, body=None):
        headers = {"X-Auth-Token": self.token} if self.token else {}
        answer = self.client.open(f"/v3{path}", method=method, headers=headers, json=body)
        if answer.status_code >= 300:
            sys.exit(f"{method} {path}: {answer.status}\n{answer.get_data(as_text=True)}")
        return answer

    def create(self, collection, **values):
        kind = collection.rsplit("/", 1)[-1].removesuffix("s")
        return self.call("POST", f"/{collection}", {kind: values}).get_json()[kind]

    def sign_in(self, user, password, project):
        who = {"name": user, "password": password, "domain": {"id": "default"}}
        scope = {"project": {"name": project, "domain": {"id": "default"}}}
        identity = {"methods": ["password"], "password": {"user": who}}
        self.token = None
        answer = self.call("POST", "/auth/tokens", {"auth": {"identity": identity, "scope": scope}})
        self.token = answer.headers["X-Subject-Token"]


def make_services(identity):
    """Services and endpoints; returns the ids of the endpoints, and of the image service."""
    endpoints, services = {}, {}
    for kind, name in SERVICES.items():
        service = services[kind] = identity.create("services", type=kind, name=name)["id"]
        for interface in ("public", "internal"):
            endpoint = identity.create(
                "endpoints", service_id=service, interface=interface, region_id=REGION, url=NO_URL)
            endpoints[f"{kind}:{interface}"] = endpoint["id"]
    return endpoints, services["image"]


def make_accounts(identity):
    """Projects, users and their roles; returns the ids of both."""
    roles = {role["name"]: role["id"] for role in identity.call("GET", "/roles").get_json()["roles"]}
    projects = {item["name"]: item["id"] for item in identity.call("GET", "/projects").get_json()["projects"]}
    users = {item["name"]: item["id"] for item in identity.call("GET", "/users").get_json()["users"]}
    for name in PROJECTS:
        projects[name] = identity.create("projects", name=name, domain_id="default")["id"]
    for name, assignments in USERS.items():
        user = users[name] = identity.create(
            "users", name=name, domain_id="default", password=f"{name}-Passw0rd")["id"]
        for project, role in assignments.items():
            identity.call("PUT", f"/projects/{projects[project]}/users/{user}/roles/{roles[role]}")
    identity.call("PUT", f"/projects/{projects['visa']}/users/{users['admin']}/roles/{roles['admin']}")
    # Glance reads the limits of all projects.
    identity.call("PUT", f"/system/users/{users['glance']}/roles/{roles['reader']}")
    return projects, users


def populate(folder):
    os.chdir(folder / "keystone")
    os.environ["OS_KEYSTONE_CONFIG_DIR"] = str(folder / "keystone")
    sys.argv = ["keystone"]  # Keystone parses it.
    identity = Identity()
    identity.sign_in("admin", ADMIN_PASSWORD, "admin")
    endpoints, image_service = make_services(identity)
    projects, users = make_accounts(identity)
    limits = [{"service_id": image_service, "region_id": REGION, "resource_name": name, "default_limit": PLENTY}
              for name in LIMITS]
    identity.call("POST", "/registered_limits", {"registered_limits": limits})
    identity.sign_in("builder", "builder-Passw0rd", "visa")
    credential = identity.call("POST", f"/users/{users['builder']}/application_credentials",
                               {"application_credential": APPLICATION_CREDENTIAL}).get_json()
    facts = {
        "projects": projects,
        "users": users,
        "endpoints": endpoints,
        "image_service": image_service,
        "application_credential": credential["application_credential"]["id"],
    }
    (folder / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def main():
    folder = Path(sys.argv[1]).resolve()
    install_configuration(folder)
    make_databases(folder)
    populate(folder)


if __name__ == "__main__":
    main()
