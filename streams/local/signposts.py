"""Where everything of a local stack listens, and what to type next. Texts for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from rich.console import Console

from streams.local.stack import Stack
from streams.local.stories import Story


def show_stack(stack: Stack, console: Console) -> None:
    """The addresses of a stack that is up, and first commands to try."""
    config = f"--config {stack.config_file}"
    lines = [
        "",
        f"[bold]Flowstate is up.[/bold] Ctrl-C stops it; the data stays in {stack.plan.data}.",
        "",
        f"  [bold]Pages             {stack.web_urls['ledger']}/overview[/bold]   (in a browser)",
        f"  Kafka             {stack.bootstrap}",
        f"  schema registry   {stack.registry_url}",
        f"  providers         {stack.providers_url}/received   (what has reached them)",
        *(
            f"  {role:<17} {url}   (/health/ready, /metrics)"
            for role, url in stack.web_urls.items()
        ),
        *([f"  HTTP API          {stack.api_url}/v1/openapi.json"] if stack.api_url else []),
        "",
        "In another terminal:",
        f"  flowstate publish destinations examples/destinations.jsonl {config}",
        f"  flowstate publish events.normal examples/events.jsonl {config}",
        f"  flowstate tail decisions --from-beginning {config}",
        f"  flowstate explain ann message-1 {config}",
        "",
    ]
    for line in lines:
        console.print(line, soft_wrap=True)


def story_url(stack: Stack, story: Story) -> str:
    """The page that tells a story."""
    recipient, event = (quote(part, safe="") for part in (story.recipient_id, story.event_id))
    return f"{stack.web_urls['ledger']}/recipients/{recipient}/events/{event}"


def show_stories(
    stories: Sequence[Story], options: str, console: Console, stack: Stack | None = None
) -> None:
    """Commands that explain events of a run; ``options`` are added to each. With a stack that
    stays up, the pages that do."""
    for story in stories:
        if stack is not None:
            url = story_url(stack, story)
            console.print(f"  {url}   [dim]# {story.about}[/dim]", soft_wrap=True)
            continue
        command = f"flowstate explain {story.recipient_id} {story.event_id} {options}".rstrip()
        console.print(f"  {command}   [dim]# {story.about}[/dim]", soft_wrap=True)
