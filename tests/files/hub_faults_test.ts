import { assert, assertEquals, assertRejects } from "@std/assert";
import { HubError } from "../../lib/files/hub_files.ts";
import { cutOff, gitHash, HubServer, sha256 } from "../support/hub_server.ts";
import { below, config, deadAddress, files, TOKEN, weights, withHub } from "../support/hub_setup.ts";

withHub("a server that is busy is asked again, and not before it wants to be", {}, async ({ hub, load }) => {
  const asked = new Map<string, number>();
  hub.changes.answer = ({ host, path }) => {
    const count = asked.get(host + path) ?? 0;
    asked.set(host + path, count + 1);
    return count < 2 ? new Response("busy", { status: [503, 429][count]! }) : undefined;
  };
  await load();
  assertEquals(new Set(asked.values()).size > 0 && Math.min(...asked.values()) >= 3, true);
  hub.changes.answer = ({ path }) =>
    path.includes("revision") && asked.delete("once")
      ? new Response("", { status: 503, headers: { "retry-after": "1" } })
      : undefined;
  asked.set("once", 1);
  const start = performance.now();
  await load();
  assert(performance.now() - start >= 990);
  hub.take();
  hub.changes.answer = () => new Response("", { status: 500 });
  await assertRejects(
    () => load({ revision: "v1" }),
    HubError,
    "could not answer (HTTP 500): try again later",
  );
  assertEquals(hub.take().length, 5);
});

withHub("a cut download goes on where it was cut, as often as it takes", {}, async ({ hub, load }) => {
  hub.changes.answer = ({ host, range }, bytes) =>
    host === "storage" ? cutOff(bytes!, 20_000, range) : undefined;
  assertEquals(await Deno.readFile(`${await load()}/model.safetensors`), weights);
  const ranges = hub.take().filter(({ host }) => host === "storage").map(({ range }) => range);
  assertEquals(ranges, [null, ...[20, 40, 60, 80, 100].map((kilo) => `bytes=${kilo}000-`)]);
});

withHub(
  "a download that another process left goes on, and one that does not move ends",
  {},
  async (setup) => {
    const { hub, home, load } = setup, blobs = `${home}/hub/models--lab--model/blobs`;
    await Deno.mkdir(blobs, { recursive: true });
    const part = `${blobs}/${sha256(weights)}.incomplete`;
    await Deno.writeFile(part, weights.subarray(0, 70_000));
    hub.changes.answer = ({ host }, bytes) => host === "storage" ? cutOff(bytes!, 60_000, null) : undefined;
    await assertRejects(load, HubError, "60000 of 116568 bytes of model.safetensors");
    assertEquals(hub.take().filter(({ host }) => host === "storage").length, 5);
    hub.changes = {};
    assertEquals(await Deno.readFile(`${await load()}/model.safetensors`), weights);
    assertEquals(hub.take().at(-1)!.range, "bytes=60000-");
    assertEquals(below(blobs), [gitHash(config), sha256(weights)].sort());
  },
);

for (const [name, kind] of [["model.safetensors", "large"], ["config.json", "small"]] as const) {
  withHub(
    `a ${kind} file with a wrong hash is refused, and nothing of it stays`,
    {},
    async ({ hub, home, load }) => {
      hub.changes.answer = ({ path }, bytes) => {
        if (!path.endsWith(name) || (kind === "large" && path.includes("resolve"))) return undefined;
        const wrong = bytes!.slice();
        wrong[100]! ^= 1;
        return new Response(wrong);
      };
      await assertRejects(load, HubError, `lab/model: ${name}: expected the hash`);
      const left = below(home).filter((path) => path !== "token");
      assertEquals(left.filter((path) => path.includes(name) || /incomplete|refs/.test(path)), []);
      assertEquals(left.length, kind === "large" ? 2 : 0);
      hub.changes = {};
      await load();
    },
  );
}

withHub(
  "the token goes to the hub, not to the host it sends on to",
  { token: TOKEN },
  async ({ hub, load }) => {
    await load();
    const seen = hub.take();
    assertEquals(
      new Set(seen.filter(({ host }) => host === "hub").map(({ token }) => token)),
      new Set([`Bearer ${TOKEN}`]),
    );
    assertEquals(seen.filter(({ host }) => host === "storage").map(({ token }) => token), [null]);
  },
);

withHub(
  "the token is found where huggingface_hub looks for it",
  { token: TOKEN },
  async ({ hub, home, load }) => {
    await Deno.writeTextFile(`${home}/other`, `${TOKEN}\n`);
    await load({ environment: { HF_TOKEN: "", HUGGING_FACE_HUB_TOKEN: TOKEN } });
    await load({ environment: { HF_TOKEN: "", HF_TOKEN_PATH: `${home}/other` } });
    await Deno.copyFile(`${home}/other`, `${home}/token`);
    await load({ environment: { HF_TOKEN: "" } });
    await load({
      environment: {
        HF_TOKEN: "",
        HF_HOME: "",
        HOME: `${home}/..`,
        XDG_CACHE_HOME: "~/$NAME",
        NAME: "none",
        HF_TOKEN_PATH: "${DIR}/other",
        DIR: home,
        HF_HUB_CACHE: `${home}/hub`,
      },
    });
    hub.take();
    await assertRejects(
      () => load({ environment: { HF_TOKEN: "hf_Secret\nwith: more" } }),
      HubError,
      "expected one word",
    );
    await assertRejects(
      () => load({ environment: { HF_ENDPOINT: "http://me:Secret@127.0.0.1" } }),
      HubError,
      "HF_ENDPOINT: expected an address",
    );
    assertEquals(hub.take(), []);
  },
);

withHub(
  "what may not be read is refused with what helps",
  { token: "hf_other" },
  async ({ hub, home, load }) => {
    const none = { environment: { HF_TOKEN: "" } };
    await assertRejects(() => load(none), HubError, "(HTTP 401): there is no such folder here");
    await assertRejects(() => load(none), HubError, "log in with `hf auth login` or set HF_TOKEN");
    await assertRejects(load, HubError, "(HTTP 404): there is no such folder here");
    await assertRejects(load, HubError, "may have expired or may not read it");
    hub.changes.answer = () => new Response("", { status: 403, headers: { "x-error-code": "GatedRepo" } });
    await assertRejects(load, HubError, `conditions to be accepted: do so on ${hub.endpoint}/lab/model`);
    hub.changes.answer = () => new Response("", { status: 418 });
    await assertRejects(load, HubError, "refused (HTTP 418)");
    assertEquals(below(`${home}/hub`), []);
  },
);

withHub("what the hub lists never names a place outside the cache", {}, async ({ hub, home, load }) => {
  for (const commit of ["../../../../outside", "main", ""]) {
    hub.changes.commit = commit;
    await assertRejects(load, HubError, "expected a Hugging Face hub");
  }
  delete hub.changes.commit;
  for (const change of [{ oid: "../../../outside" }, { size: -1 }, { size: 1e300 }, { oid: undefined }]) {
    hub.changes.listed = (entry) => ({ ...entry, lfs: undefined, ...change });
    await assertRejects(load, HubError, 'got: size or hash of "config.json"');
  }
  hub.changes = { answer: () => new Response("<html>Log in to the WiFi</html>") };
  await assertRejects(load, HubError, "a login page of the network is in the way");
  assertEquals(below(home), []);
});

withHub(
  "a server that falls silent is left after HF_HUB_DOWNLOAD_TIMEOUT seconds",
  {},
  async ({ hub, load }) => {
    const environment = { HF_HUB_DOWNLOAD_TIMEOUT: "0.2" };
    let silent = 1;
    hub.changes.answer = ({ host }, bytes) => {
      if (host !== "storage" || silent-- <= 0) return undefined;
      return new Response(
        new ReadableStream({ start: (controller) => controller.enqueue(bytes!.subarray(0, 9)) }),
      );
    };
    assertEquals(await Deno.readFile(`${await load({ environment })}/model.safetensors`), weights);
    assertEquals(hub.take().at(-1)!.range, "bytes=9-");
  },
);

withHub(
  "the signed address of a file is not told when its host is out of reach",
  {},
  async ({ hub, load }) => {
    const location = `${deadAddress()}/model.safetensors?X-Amz-Signature=signed`;
    hub.changes.answer = ({ path }) =>
      path.endsWith(".safetensors") ? new Response(null, { status: 302, headers: { location } }) : undefined;
    await assertRejects(load, HubError, "got: error sending request: client error (Connect)");
  },
);

withHub(
  "the token does not go to another host that a list of files goes on at",
  { token: TOKEN },
  async (setup) => {
    const { hub, load } = setup, headers: Record<string, string> = {};
    await using other = new HubServer(files, { answer: () => Response.json([]) });
    headers.link = `<${other.endpoint}/more>; rel="next"`;
    hub.changes.answer = ({ path }) => path.includes("/tree/") ? Response.json([], { headers }) : undefined;
    await assertRejects(load, HubError, "expected config.json at main, got no files");
    assertEquals(other.take().map(({ path, token }) => [path, token]), [["/more", null]]);
  },
);

withHub(
  "a server that asks for more patience than a minute is left at once, with what it asked for",
  {},
  async ({ hub, load }) => {
    hub.changes.answer = () => new Response("", { status: 429, headers: { "retry-after": "1000000000" } });
    await assertRejects(load, HubError, "(HTTP 429): try again in 1000000000 seconds");
    assertEquals(hub.take().length, 1);
  },
);

withHub("a part that the server calls unsatisfiable is downloaded anew", {}, async ({ hub, home, load }) => {
  const blobs = `${home}/hub/models--lab--model/blobs`;
  await Deno.mkdir(blobs, { recursive: true });
  await Deno.writeFile(`${blobs}/${sha256(weights)}.incomplete`, new Uint8Array(100));
  hub.changes.answer = ({ host, range }) =>
    host === "storage" && range ? new Response(null, { status: 416 }) : undefined;
  assertEquals(await Deno.readFile(`${await load()}/model.safetensors`), weights);
  assertEquals(hub.take().filter(({ host }) => host === "storage").map(({ range }) => range), [
    "bytes=100-",
    null,
  ]);
});

withHub(
  "a list of files that goes in a circle, or whose answer does not end, is given up",
  {},
  async ({ hub, load }) => {
    const headers = { link: `<${hub.endpoint}/api/models/lab/model/tree/again?cursor=1>; rel="next"` };
    hub.changes.answer = ({ path }) => path.includes("/tree/") ? Response.json([], { headers }) : undefined;
    await assertRejects(load, HubError, "got: a list of files without an end");
    assert(hub.take().length <= 4);
    const endless = () =>
      new ReadableStream<Uint8Array>({
        pull: (controller) => controller.enqueue(new Uint8Array(2 ** 20).fill(32)),
      });
    hub.changes.answer = ({ path }) => path.includes("/tree/") ? new Response(endless()) : undefined;
    await assertRejects(load, HubError, "the list of files: expected at most 33554432 bytes, got more");
  },
);

withHub("a download that moves by a few bytes a try ends", {}, async ({ hub, load }) => {
  hub.changes.answer = ({ host, range }, bytes) => host === "storage" ? cutOff(bytes!, 10, range) : undefined;
  await assertRejects(load, HubError, "50 of 116568 bytes of model.safetensors");
});
