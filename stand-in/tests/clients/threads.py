"""Works with threads through `httpx` over HTTP/2. Every assertion is one of the contract."""

import os
import ssl

import httpx

API = os.environ["API"]


def signed_in(client):
    answer = client.post(
        os.environ["AUTH"] + "/auth/e2e/test-auth",
        headers={"X-E2E-Bypass-Key": os.environ["E2E_KEY"]},
        json={"email": "threads@example.test"},
    )
    assert answer.status_code == 200, answer.text
    return {"Authorization": "Bearer " + answer.json()["access_token"]}


def main():
    tls = ssl.create_default_context(cafile=os.environ["CA"])
    with httpx.Client(http2=True, verify=tls, trust_env=False, timeout=20) as client:
        client.headers.update(signed_in(client))
        made = [client.post(API + "/api/threads", json={"title": f"t{n}", "metadata": {"n": n}}) for n in range(5)]
        assert {(answer.status_code, answer.http_version) for answer in made} == {(200, "HTTP/2")}, made
        ids = [answer.json()["id"] for answer in made]
        assert all(one.startswith("thread_") and one.count("thread_") == 1 for one in ids), ids
        assert len({answer.headers["x-trace-id"] for answer in made}) == 5

        listed = client.get(API + "/api/threads").json()
        assert [thread["id"] for thread in listed] == ids[::-1], "newest first"
        pages = [client.get(API + "/api/threads", params={"limit": 2, "offset": at}).json() for at in (0, 2, 4, 6)]
        assert [len(page) for page in pages] == [2, 2, 1, 0], pages
        assert [thread for page in pages for thread in page] == listed

        thread = ids[0]
        for n in range(15):
            posted = client.post(API + "/api/chat/messages", json={"content": f"m{n} ü", "thread_id": thread})
            assert posted.status_code == 200, posted.text
        seen = []
        for at in (0, 7, 14):
            query = {"thread_id": thread, "limit": 7, "offset": at}
            page = client.get(API + "/api/chat/messages", params=query).json()
            assert page["total_count"] == 15 and page["page"] == at // 7 + 1, page
            assert page["has_more"] is (at < 14), page
            seen += [message["content"] for message in page["messages"]]
        assert seen == [f"m{n} ü" for n in range(15)], seen
        history = client.get(f"{API}/api/threads/{thread}/messages").json()
        assert (history["messages"], history["total"], history["limit"]) == ([], 0, 50), history

        assert client.put(f"{API}/api/threads/{thread}", json={"title": "new"}).json()["title"] == "new"
        assert client.get(f"{API}/api/threads/{thread}").json()["title"] == "new"
        for _ in range(2):
            assert client.delete(f"{API}/api/threads/{thread}").status_code == 200
        assert client.get(f"{API}/api/threads/{thread}").json()["metadata"]["status"] == "archived"
        assert thread not in [one["id"] for one in client.get(API + "/api/threads").json()]
        refused = client.post(API + "/api/chat/messages", json={"content": "late", "thread_id": thread})
        assert refused.status_code == 409, refused.text
    print("ok")


main()
