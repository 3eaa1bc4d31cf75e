"""One module per protocol; pure asyncio and bytes, no Django, nothing of jobs."""
