/** Ctrl-C, as it comes from a terminal, to this process alone. @module */

const BOOL = "i32", CTRL_C = 0;

/** Sends it. On Windows, where only a console can, this process gets a console of its own. */
export function pressCtrlC(): void {
  if (Deno.build.os !== "windows") return Deno.kill(Deno.pid, "SIGINT");
  const { symbols: windows } = Deno.dlopen("kernel32.dll", {
    FreeConsole: { parameters: [], result: BOOL },
    AllocConsole: { parameters: [], result: BOOL },
    SetConsoleCtrlHandler: { parameters: ["pointer", BOOL], result: BOOL },
    GetStdHandle: { parameters: ["i32"], result: "usize" },
    SetStdHandle: { parameters: ["i32", "usize"], result: BOOL },
    GenerateConsoleCtrlEvent: { parameters: ["u32", "u32"], result: BOOL },
  });
  const streams = [-10, -11, -12].map((id) => [id, windows.GetStdHandle(id)] as const);
  windows.FreeConsole();
  windows.AllocConsole();
  for (const [id, handle] of streams) windows.SetStdHandle(id, handle); // which the new console had taken over
  windows.SetConsoleCtrlHandler(null, 0); // a process may have been started with it ignored
  if (!windows.GenerateConsoleCtrlEvent(CTRL_C, 0)) throw new Error("Windows took no Ctrl-C");
}
