"""Talks to the stand-in's WebSocket with the `websockets` library. Every assertion is one of the contract."""

import asyncio
import base64
import json
import os
import ssl
import urllib.request

import websockets

TLS = ssl.create_default_context(cafile=os.environ["CA"])


def token():
    request = urllib.request.Request(
        os.environ["AUTH"] + "/auth/e2e/test-auth",
        data=json.dumps({"email": "socket@example.test"}).encode(),
        headers={"X-E2E-Bypass-Key": os.environ["E2E_KEY"], "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, context=TLS) as response:
        return json.load(response)["access_token"]


def connect(**options):
    return websockets.connect(os.environ["WS"], ssl=TLS, proxy=None, **options)


async def receive(socket):
    while True:
        frame = json.loads(await asyncio.wait_for(socket.recv(), 10))
        if frame["type"] != "ping":
            return frame


async def header_carrier(jwt):
    async with connect(additional_headers={"Authorization": "Bearer " + jwt}) as socket:
        welcome = await receive(socket)
        assert welcome["data"]["event"] == "connection_established", welcome
        assert welcome["data"]["user_id"] == "e2e-socket", welcome
        assert welcome["data"]["connection_ready"] is True, welcome
        assert socket.subprotocol is None

        await asyncio.wait_for(await socket.ping(), 5)
        await socket.send('{"type":"ping"}')
        pong = await receive(socket)
        assert (pong["type"], pong["data"]["user_id"]) == ("pong", "e2e-socket"), pong

        message = {"content": "Which of 3 models is cheapest?", "message_id": "m-1"}
        await socket.send(json.dumps({"type": "user_message", "payload": message}))
        ack = await receive(socket)
        assert (ack["data"]["status"], ack["data"]["original_message_id"]) == ("acknowledged", "m-1"), ack
        events = []
        while not events or events[-1]["type"] not in ("agent_completed", "agent_error"):
            events.append(await receive(socket))
        kinds = [event["type"] for event in events]
        assert kinds[0] == "agent_started" and kinds[-1] == "agent_completed", kinds
        assert {"agent_thinking", "tool_executing", "tool_completed", "partial_result"} <= set(kinds), kinds
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        assert {event["thread_id"] for event in events} == {ack["data"]["thread_id"]}

        heartbeat = json.loads(await asyncio.wait_for(socket.recv(), 5))
        assert heartbeat["type"] == "ping", heartbeat
    assert socket.close_code == 1000, socket.close_code


async def subprotocol_carrier(jwt):
    encoded = base64.urlsafe_b64encode(jwt.encode()).rstrip(b"=").decode()
    async with connect(subprotocols=["jwt-auth", "jwt." + encoded]) as socket:
        assert socket.subprotocol == "jwt-auth", socket.subprotocol
        assert (await receive(socket))["data"]["user_id"] == "e2e-socket"


async def refused():
    async with connect(additional_headers={"Authorization": "Bearer a.b.c", "X-E2E-Test": "true"}) as socket:
        frame = await receive(socket)
        assert (frame["type"], frame["error_code"]) == ("error_message", "VALIDATION_FAILED"), frame
        try:
            frame = await receive(socket)
            raise AssertionError(f"wanted a close, got {frame}")
        except websockets.ConnectionClosed as closed:
            assert closed.rcvd.code == 1008, closed


async def main():
    jwt = token()
    await header_carrier(jwt)
    await subprotocol_carrier(jwt)
    await refused()
    print("ok")


asyncio.run(main())
