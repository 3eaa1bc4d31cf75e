"""What `manage.py move` refuses before it starts anything; that a shell sees it is asked in tests/acceptance."""

import io

import pytest
from django.core.management import CommandError, call_command

from sessions_app.models import Job, User


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["/nowhere"], "SOURCE and DESTINATION"),
        (["/nowhere", "/nowhere/else", "--resume", "x"], "SOURCE and DESTINATION"),
        (["--resume", "x", "--no-verify"], "leave --verify out"),
        (["--resume", "x"], "no job x"),
        (["--resume", "00000000-0000-4000-8000-000000000000"], "no job 0000"),
        (["/nowhere", "shop:/srv/x"], "no stored connection “shop”"),
        (
            ["/nowhere", "/nowhere/else", "--destination-key", "/key"],
            "--destination-key goes with an address",
        ),
        (["/nowhere", "/nowhere/else", "--bwlimit", "-1"], "--bwlimit: Must not be less than 0"),
        (["/nowhere", "/nowhere/else", "--bwlimit", "nan"], "--bwlimit: "),
        (["/nowhere", "/nowhere/else", "--bwlimit", "08:00,2 18:00"], "--bwlimit: “18:00” must be like"),
        (["/nowhere", "/nowhere/else", "--bwlimit", "8", "--bwlimit-zone", "Mars"], "--bwlimit-zone: “Mars”"),
        (["/nowhere", "/nowhere/else", "--exclude", "x" * 10_000], "--exclude: "),
        (["/nowhere", "sftp://user:hunter2@example.org/x"], "password"),
        (["/nowhere", "sftp:///x"], "no host"),
        (["/nowhere", "sftp://u@example.org:x/y"], "no address"),
        (["/nowhere", "ftp://example.org/x"], "ftp"),
        (["/nowhere", "sftp://u@example.org/x"], "HAULIER_DESTINATION_PASSWORD"),
        (
            ["/nowhere", "sftp://u@example.org/x", "--destination-key", "/nowhere/key"],
            "/nowhere/key: No such",
        ),
        (["/nowhere", "/nowhere/inside"], "DESTINATION: The destination lies inside the source"),
        (["sftp://u@example.org/a/../b", "/nowhere"], "SOURCE"),
    ],
)
def test_wrong_usage_is_refused_with_a_sentence(
    owner: User, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setenv("HAULIER_SOURCE_PASSWORD", "hunter2")
    with pytest.raises(CommandError) as refusal:
        call_command("move", *arguments)
    assert refusal.value.returncode == 2
    assert sentence in str(refusal.value)
    assert "hunter2" not in str(refusal.value)
    assert not Job.objects.exists()


def test_only_a_transfer_is_resumed_here(owner: User) -> None:
    scan = Job.objects.create(type="scan", owner=owner, status="paused")
    with pytest.raises(CommandError, match="is a scan; a transfer goes on here") as refusal:
        call_command("move", "--resume", str(scan.pk))
    assert refusal.value.returncode == 2
