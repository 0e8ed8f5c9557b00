// What Wine 8 lacks of bcryptprimitives.dll: the one function that Deno takes random bytes from.
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG bytes);

__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *buffer, SIZE_T bytes) {
  for (SIZE_T done = 0; done < bytes;) {
    ULONG part = bytes - done > 1 << 20 ? 1 << 20 : (ULONG)(bytes - done);
    if (!SystemFunction036(buffer + done, part)) return FALSE;
    done += part;
  }
  return TRUE;
}
