"""Every link of the image is followed as the guest follows it; those that lead nowhere are named, and fail nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.errors import Finding
from orchestrator.verification import Verification

from .conftest import DIRECTORY, Content, Recipe

Verify = Callable[..., Verification]


def told(result: Verification) -> dict[str, Finding]:
    return {finding.code: finding for finding in result.findings if finding.code.startswith("link-")}


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/data/v1/key", None),
        ("v1/key", None),
        ("v1/../v1", None),
        ("../../../data/v1", None),
        ("middle", None),
        ("through/key", None),
        ("/", None),
        ("/etc/resolv.conf", None),
        ("/proc/self/exe", None),
        ("/dev/stdout", None),
        ("/sys/devices/system/cpu", None),
        ("/workspace/out/x", None),
        ("to-workspace/x", None),
        ("/proc", None),
        ("/releases/v1", "link-dangling"),
        ("../releases/v1", "link-dangling"),
        ("v1/key/x", "link-dangling"),
        ("v1/key/", None),
        ("/processes/x", "link-dangling"),
        ("/workspace2", "link-dangling"),
        ("link", "link-endless"),
        ("back", "link-endless"),
        ("chain8", None),
        ("chain9", "link-endless"),
    ],
)
def test_where_a_link_may_lead(verify: Verify, good: Recipe, target: str, code: str | None) -> None:
    files: dict[str, Content] = {
        "/data/v1/key": b"k", "/data/empty": DIRECTORY, "/data/middle": "v1/key", "/data/through": "/data/v1",
        "/data/to-workspace": "/workspace", "/data/back": "link", "/data/chain1": "v1", "/data/link": target,
    }  # fmt: skip
    if target != "back":
        del files["/data/back"]
    if target.startswith("chain"):
        # The link itself is the first hop: chain7 is the last that the guest reaches through it.
        files |= {f"/data/chain{n}": f"chain{n - 1}" for n in range(2, int(target[5:]))}
        files["/data/link"] = f"chain{int(target[5:]) - 1}"
    result = verify(good.but(files=files), "devnet")
    assert result.ok
    assert set(told(result)) == ({code} if code else set())
    if code and not target.startswith("chain"):
        message = told(result)[code].message
        assert f"/data/link -> {target}" in message
        if target == "../releases/v1":
            assert "(the image has no /releases/v1)" in message
    (check,) = (check for check in result.checks if check.id == "links")
    assert check.detail == f"{sum(isinstance(content, str) for content in files.values())} links"


def test_many_are_one_warning_with_their_number(verify: Verify, good: Recipe) -> None:
    result = verify(good.but(files={f"/d/l{n:03}": f"/gone/{n}" for n in range(136)}), "devnet")
    message = told(result)["link-dangling"].message
    assert message.startswith("136 links lead nowhere in the image: /d/l000 -> /gone/0, /d/l001 -> /gone/1, ")
    assert message.endswith(" and 131 more")
