// A python.exe for Wine. Asked by -c who it is, it answers as CPython 3.12 of its own folder; other programs do nothing;
// `-m …` is done by the Python of the machine that Wine runs on, with paths as that one knows them.
#include <process.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

// A word for sh, quoted; C:\a becomes the prefix' c:/a, Z:\a becomes /a.
static void append(char *command, const char *word) {
  char *end = command + strlen(command);
  *end++ = '\'';
  if (word[0] && word[1] == ':') {
    if (word[0] != 'Z') end += sprintf(end, "%s/dosdevices/%c:", getenv("UNIX_PREFIX"), word[0] | 32);
    word += 2;
    for (; *word; word++) *end++ = *word == '\\' ? '/' : *word;
  } else {
    while (*word) *end++ = *word++;
  }
  *end++ = '\'', *end = 0;
}

int main(int count, char **words) {
  char folder[MAX_PATH], command[8192] = "", status[MAX_PATH], unix_status[MAX_PATH + 64] = "", line[9000];
  GetModuleFileNameA(NULL, folder, sizeof folder);
  *strrchr(folder, '\\') = 0;
  if (count > 2 && !strcmp(words[1], "-c")) {
    if (!strstr(words[2], "base_prefix")) return 0;
    for (char *c = folder; *c; c++) if (*c == '\\') *c = '/';
    printf("[\"cpython\", \"win-amd64\", 3, 12, false, \"%s\"]\n", folder);
    return 0;
  }
  char *temporary = getenv("TMPDIR");
  if (temporary) strcat(command, " TMPDIR="), append(command, temporary);
  strcat(command, " python3");
  for (int i = 1; i < count; i++) strcat(command, " "), append(command, words[i]);
  sprintf(status, "%s\\status-%d", getenv("TEMP"), _getpid());
  append(unix_status, status);
  snprintf(line, sizeof line, "\"%s; echo $? >%s.new; mv %s.new %s\"", command, unix_status, unix_status, unix_status);
  // A process of the system under Wine cannot be waited for.
  const char *arguments[] = {"sh", "-c", line, NULL};
  _spawnv(_P_NOWAIT, "Z:\\bin\\sh", arguments);
  for (;; Sleep(100)) {
    FILE *file = fopen(status, "r");
    int code;
    if (!file) continue;
    int got = fscanf(file, "%d", &code);
    fclose(file);
    if (got == 1) return remove(status), code;
  }
}
