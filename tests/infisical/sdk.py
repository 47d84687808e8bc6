"""Reads from the test server with the official Python SDK: what the server says is what that SDK understands.

usage: sdk.py SERVER   (the program `infisical-server`)
"""
import json
import subprocess
import sys

from infisical_sdk import InfisicalSDKClient
from infisical_sdk.infisical_requests import APIError

LINES = '-----BEGIN-----\nline two\r\n\ttab "quote" $HOME `id`\n-----END-----\n'


def main():
    with subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        try:
            check(json.loads(server.stdout.readline()))
        finally:
            server.stdin.close()
            server.wait(timeout=60)


def check(said):
    client = InfisicalSDKClient(host=said["url"], cache_ttl=None)
    refused(401, lambda: client.auth.universal_auth.login(said["clientId"], "wrong"))
    client.auth.universal_auth.login(said["clientId"], said["clientSecret"])
    listing = lambda **more: client.secrets.list_secrets(
        **{"environment_slug": "dev", "secret_path": "/", "project_id": said["projectId"], **more})

    plain = {one.secretKey: one for one in listing().secrets}
    same(plain["PLAIN"].secretValue, "plain value")
    same(plain["LINES"].secretValue, LINES)
    same(plain["UNICODE"].secretValue, "grüße ☃ 𝄞")
    same(plain["EMPTY"].secretValue, "")
    same(plain["REFERRING"].secretValue, "to plain value and two down")
    same((plain["SECRET"].secretValue, plain["SECRET"].secretValueHidden), ("<hidden-by-infisical>", True))
    same("IN_FOLDER" in plain, False)
    imports = listing().imports
    # This version of the SDK leaves what is imported as plain dictionaries.
    same([(one.secretPath, one.secrets[0]["secretKey"], one.secrets[0]["secretValue"]) for one in imports],
         [("/shared-one", "IMPORTED", "earlier"), ("/shared-two", "IMPORTED", "later")])
    same(listing(include_imports=False).imports, [])

    raw = {one.secretKey: one.secretValue for one in listing(expand_secret_references=False).secrets}
    same(raw["REFERRING"], "to ${PLAIN} and ${dev.folder.inner.DEEP}")
    below = {(one.secretPath, one.secretKey) for one in listing(recursive=True).secrets}
    same({("/folder", "IN_FOLDER"), ("/folder/inner", "DEEP"), ("/", "PLAIN")} <= below, True)
    same([one.secretKey for one in listing(tag_filters=["red"]).secrets], ["TAGGED"])
    same(listing(project_id=None, project_slug=said["projectSlug"]).secrets[0].secretPath, "/")
    hidden = listing(view_secret_value=False).secrets
    same(all(one.secretValueHidden for one in hidden), True)

    one = client.secrets.get_secret_by_name(
        secret_name="IMPORTED", environment_slug="dev", secret_path="/", project_id=said["projectId"])
    same(one.secretValue, "later")

    refused(404, lambda: listing(environment_slug="nowhere"))
    refused(404, lambda: listing(project_id="another"))
    refused(422, lambda: listing(secret_path="no-slash"))
    stranger = InfisicalSDKClient(host=said["url"], token="a.b.c", cache_ttl=None)
    refused(401, lambda: stranger.secrets.list_secrets(
        environment_slug="dev", secret_path="/", project_id=said["projectId"]))


def same(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def refused(status, work):
    try:
        work()
    except APIError as error:
        same(error.status_code, status)
    else:
        raise AssertionError(f"no error {status}")


main()
