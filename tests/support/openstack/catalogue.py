"""Writes the endpoints of a cloud into its copy of Keystone's database.

Usage: catalogue.py DATABASE TYPE:INTERFACE=URL...

Endpoints that are not named are taken out of the catalogue.
"""

import sqlite3
import sys


def main():
    database, *endpoints = sys.argv[1:]
    urls = {}
    for endpoint in endpoints:
        key, _, url = endpoint.partition("=")
        urls[tuple(key.split(":", 1))] = url
    with sqlite3.connect(database) as connection:
        query = ("SELECT endpoint.id, service.type, endpoint.interface FROM endpoint"
                 " JOIN service ON service.id = endpoint.service_id")
        for identifier, kind, interface in connection.execute(query).fetchall():
            url = urls.pop((kind, interface), None)
            if url is None:
                connection.execute("DELETE FROM endpoint WHERE id = ?", (identifier,))
            else:
                connection.execute("UPDATE endpoint SET url = ? WHERE id = ?", (url, identifier))
    connection.close()
    if urls:
        sys.exit(f"the prepared state has no endpoint {sorted(urls)}")


if __name__ == "__main__":
    main()
