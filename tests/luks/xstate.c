// Lets a user-mode kernel run on processors whose extended state is larger than it knows.
//
// Linux takes a process's registers back (PTRACE_SETREGSET, NT_X86_XSTATE) only as a whole. user-mode-linux up to 6.1 keeps 2696
// bytes of them; with AMX they are more than 11000, the call fails, and the first process of that kernel dies at once. Loaded
// before the C library, this puts what the kernel kept into what the process has, and gives that back as a whole.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

static long (*system_ptrace)(int, pid_t, void *, void *);

// Not on the stack, which is a small one of that kernel's own. It calls from one thread alone.
static char whole[1 << 16];

__attribute__((constructor)) static void find(void) { system_ptrace = dlsym(RTLD_NEXT, "ptrace"); }

long ptrace(enum __ptrace_request request, ...) {
  va_list arguments;
  va_start(arguments, request);
  pid_t pid = va_arg(arguments, pid_t);
  void *address = va_arg(arguments, void *);
  void *data = va_arg(arguments, void *);
  va_end(arguments);
  if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE) {
    struct iovec *kept = data, present = {whole, sizeof whole};
    if (system_ptrace(PTRACE_GETREGSET, pid, address, &present) == 0 && kept->iov_len < present.iov_len) {
      memcpy(whole, kept->iov_base, kept->iov_len);
      data = &present;
    }
  }
  return system_ptrace(request, pid, address, data);
}
