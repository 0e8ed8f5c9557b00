/** A server that answers as the Hugging Face hub does, and another host to which it sends on for large files. @module */
import { createHash } from "node:crypto";

/** A request as it came. */
export interface Seen {
  host: "hub" | "storage";
  path: string;
  token: string | null;
  range: string | null;
}

/** What a test changes. */
export interface HubChanges {
  /** Answers in the server's stead, or lets it answer. */
  answer?: (seen: Seen, body: Uint8Array<ArrayBuffer> | undefined) => Response | undefined;
  /** The only one that may read the model. */
  token?: string;
  /** Changes what the list of files says. */
  listed?: (entry: Record<string, unknown>) => Record<string, unknown>;
  commit?: string;
  /** "datasets/organisation/name" for a data set. */
  repo?: string;
}

export const COMMIT = "0123456789abcdef0123456789abcdef01234567";

const sum = (kind: string, ...parts: (string | Uint8Array)[]) =>
  parts.reduce<ReturnType<typeof createHash>>((hash, part) => hash.update(part), createHash(kind)).digest(
    "hex",
  );

/** What git calls these bytes. */
export const gitHash = (bytes: Uint8Array): string => sum("sha1", `blob ${bytes.length}\0`, bytes);
export const sha256 = (bytes: Uint8Array): string => sum("sha256", bytes);

/** A part of a file, as asked for. */
function part(bytes: Uint8Array<ArrayBuffer>, range: string | null): Response {
  const start = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
  return range === null ? new Response(bytes) : new Response(bytes.subarray(start), {
    status: 206,
    headers: { "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` },
  });
}

/** A body that breaks off although its length was announced. */
export function cutOff(bytes: Uint8Array<ArrayBuffer>, after: number, range: string | null): Response {
  const whole = part(bytes, range), start = range === null ? 0 : Number(/\d+/.exec(range));
  const headers = { ...Object.fromEntries(whole.headers), "content-length": String(bytes.length - start) };
  const body = new ReadableStream({
    start(controller) {
      controller.enqueue(bytes.subarray(start, start + after));
      controller.close();
    },
  });
  return new Response(body, { status: whole.status, headers });
}

const refuse = (status: number, code: string) =>
  Response.json({ error: code }, { status, headers: { "x-error-code": code } });

const LARGE = /\.(safetensors|parquet)$/;

/** The model "lab/model", or another, with these files; safetensors and Parquet are large ones, kept on the other host. */
export class HubServer implements AsyncDisposable {
  readonly seen: Seen[] = [];
  readonly endpoint: string;
  changes: HubChanges;
  readonly #servers: Deno.HttpServer<Deno.NetAddr>[];
  readonly #files: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

  constructor(files: ReadonlyMap<string, Uint8Array<ArrayBuffer>>, changes: HubChanges = {}) {
    this.#files = files;
    this.changes = changes;
    const options = { port: 0, hostname: "127.0.0.1", onListen() {} };
    const serve = (host: Seen["host"]) => Deno.serve(options, (request) => this.#handle(host, request));
    this.#servers = [serve("hub"), serve("storage")];
    this.endpoint = this.#address(0);
  }

  /** The paths asked for since the last call. */
  take(): Seen[] {
    return this.seen.splice(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.shutdown()));
  }

  #address = (which: 0 | 1): string => `http://127.0.0.1:${this.#servers[which]!.addr.port}`;

  #handle(host: Seen["host"], request: Request): Response {
    const url = new URL(request.url), { pathname: path } = url, { headers } = request;
    const seen = { host, path, token: headers.get("authorization"), range: headers.get("range") };
    this.seen.push(seen);
    const { repo = "lab/model" } = this.changes, start = `/${repo}/resolve/`;
    const [, file] = path.startsWith(start)
      ? /^[^/]+\/(.*)/.exec(path.slice(start.length))!
      : [, path.slice(1)];
    const name = decodeURIComponent(file!);
    const answer = this.changes.answer?.(seen, this.#files.get(name));
    if (answer) return answer;
    if (host === "storage") return part(this.#files.get(name)!, seen.range);
    const { token, commit = COMMIT } = this.changes;
    if (!path.includes(repo) || (token && seen.token !== `Bearer ${token}`)) {
      return refuse(seen.token ? 404 : 401, "RepoNotFound");
    }
    const revision = /\/revision\/([^/?]+)$/.exec(path)?.[1];
    if (revision) {
      const known = ["main", "v1", "refs%2Fpr%2F1", COMMIT].includes(revision);
      return known
        ? Response.json({
          _id: "1",
          id: repo.replace("datasets/", ""),
          sha: commit,
          siblings: [...this.#files.keys()].map((rfilename) => ({ rfilename })),
        })
        : refuse(404, "RevisionNotFound");
    }
    if (path.includes("/tree/")) return this.#list(url);
    const bytes = this.#files.get(name);
    if (!bytes) return refuse(404, "EntryNotFound");
    if (!LARGE.test(name)) {
      const response = part(bytes, seen.range);
      response.headers.set("etag", `"${gitHash(bytes)}"`);
      response.headers.set("x-repo-commit", commit);
      return response;
    }
    const location = `${this.#address(1)}/${name}?X-Amz-Signature=signed`;
    const linked = {
      "x-linked-etag": `"${sha256(bytes)}"`,
      "x-linked-size": String(bytes.length),
      "x-repo-commit": commit,
    };
    return new Response(null, { status: 302, headers: { location, ...linked } });
  }

  /** Two files a page, as the hub has a thousand. */
  #list(url: URL): Response {
    const entries = [...this.#files].map(([path, bytes]) => {
      const entry: Record<string, unknown> = { type: "file", oid: gitHash(bytes), size: bytes.length, path };
      if (LARGE.test(path)) {
        entry.lfs = { oid: sha256(bytes), size: bytes.length, pointerSize: 130 };
      }
      return this.changes.listed?.(entry) ?? entry;
    });
    const cursor = Number(url.searchParams.get("cursor") ?? 0), next = new URL(url);
    next.searchParams.set("cursor", String(cursor + 2));
    const headers: HeadersInit = cursor + 2 < entries.length ? { link: `<${next}>; rel="next"` } : {};
    return Response.json(entries.slice(cursor, cursor + 2), { headers });
  }
}
