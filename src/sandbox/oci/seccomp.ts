// The sandboxes' seccomp profile, as an allow-list: what Node, Python and programs on glibc need, and nothing else.
//
// What is not named answers ENOSYS, so that a libc newer than this list falls back; what is known and refused answers EPERM.
// The kernel kills callers of the other ABIs (i386 by int 0x80, x32): they are not in `architectures`.

export interface SeccompArgument {
  readonly index: number;
  readonly value: number;
  readonly valueTwo?: number;
  readonly op: "SCMP_CMP_EQ" | "SCMP_CMP_MASKED_EQ";
}

export interface SeccompRule {
  readonly names: readonly string[];
  readonly action: "SCMP_ACT_ALLOW" | "SCMP_ACT_ERRNO";
  readonly errnoRet?: number;
  readonly args?: readonly SeccompArgument[];
}

export interface SeccompProfile {
  readonly defaultAction: "SCMP_ACT_ERRNO" | "SCMP_ACT_ALLOW";
  readonly defaultErrnoRet?: number;
  readonly architectures: readonly string[];
  readonly syscalls: readonly SeccompRule[];
}

const EPERM = 1;
const ENOSYS = 38;

const files = `access faccessat faccessat2 chdir fchdir chmod fchmod fchmodat fchmodat2 chown fchown fchownat lchown close
  close_range copy_file_range creat dup dup2 dup3 fadvise64 fallocate fcntl fdatasync flock fsync ftruncate truncate
  getcwd getdents getdents64 getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr fsetxattr
  removexattr lremovexattr fremovexattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch link linkat
  lseek stat fstat lstat newfstatat statx statfs fstatfs mkdir mkdirat mknod mknodat open openat openat2 pread64 preadv
  preadv2 pwrite64 pwritev pwritev2 read readv readahead readlink readlinkat rename renameat renameat2 rmdir sendfile
  splice tee vmsplice symlink symlinkat sync sync_file_range syncfs umask unlink unlinkat utime utimensat utimes futimesat write
  writev memfd_create pipe pipe2 cachestat`;

const memory = `brk madvise mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall munmap
  membarrier mseal pkey_alloc pkey_free pkey_mprotect map_shadow_stack get_mempolicy`;

const processes = `alarm arch_prctl capget capset execve execveat exit exit_group fork vfork getegid geteuid getgid
  getgroups getitimer getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid gettid
  getuid get_robust_list set_robust_list kill tgkill tkill pause pidfd_open pidfd_send_signal prctl prlimit64 rseq
  setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid
  setuid set_tid_address set_thread_area get_thread_area sysinfo times uname wait4 waitid waitpid seccomp getcpu
  ioprio_get restart_syscall sched_getaffinity sched_getattr sched_getparam sched_get_priority_max
  sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam
  sched_setscheduler sched_yield riscv_flush_icache landlock_create_ruleset landlock_add_rule landlock_restrict_self`;

const signalsAndTime = `rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
  rt_sigtimedwait rt_tgsigqueueinfo sigaltstack signalfd signalfd4 clock_getres clock_gettime clock_nanosleep
  gettimeofday nanosleep time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create
  timerfd_gettime timerfd_settime futex futex_waitv futex_wake futex_wait futex_requeue getrandom`;

const waiting = `epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 poll ppoll
  select pselect6`;

const sockets = `accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmsg
  send sendmmsg sendmsg sendto setsockopt shutdown`;

const interProcess = `msgctl msgget msgrcv msgsnd semctl semget semop semtimedop shmat shmctl shmdt shmget mq_open
  mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr`;

/** Refused with EPERM although an answer of ENOSYS would do: programs that ask for these expect "not permitted". */
const refused = `mount umount2 pivot_root chroot unshare setns ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp
  bpf perf_event_open userfaultfd keyctl add_key request_key kexec_load kexec_file_load init_module finit_module
  delete_module open_by_handle_at name_to_handle_at reboot swapon swapoff syslog acct settimeofday clock_settime
  clock_settime64 clock_adjtime adjtimex iopl ioperm quotactl quotactl_fd lookup_dcookie nfsservctl vhangup sethostname
  setdomainname move_pages migrate_pages mbind set_mempolicy fanotify_init fanotify_mark process_madvise
  process_mrelease ioprio_set modify_ldt`;

/** clone(2)'s CLONE_NEW* bits: NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const namespaceFlags = 0x7e020080;

/** S_IFMT, and of what it may say: S_IFBLK, S_IFCHR. */
const fileKind = 0xf000;
const blockDevice = 0x6000;
const characterDevice = 0x2000;

/** personality(2): only Linux as it is, and the question. */
const personalities = [0, 0xffffffff];

/** Compared by their low 32 bits, as the kernel does: a number with a high bit set must not slip past. */
const ioctls = [
  0x5401, 0x5402, 0x5403, 0x5404, 0x540b, 0x540f, 0x5410, 0x5411, 0x5413, 0x5414, 0x541b, 0x5421, 0x5422, 0x5429, 0x5450, 0x5451, 0x5452,
  0x802c542a, // TCGETS2: glibc's isatty from 2.42
  0x80045430, // TIOCGPTN
  0x8905, 0x8910, 0x8912, 0x8913, 0x8915, 0x8919, 0x891b, 0x8921, 0x8927, 0x8933, // SIOCGIF…: reading an interface
  0x80086601, 0x40049409, 0x4020940d, 0xc020660b, // FS_IOC_GETFLAGS, FICLONE, FICLONERANGE, FS_IOC_FIEMAP
]; // prettier-ignore

const families = { unix: 1, inet: 2, inet6: 10, netlink: 16 } as const;
/** socket(2)'s types without their flags, and with each the protocols of IP that a program may speak: asking for any other
 * (SCTP, DCCP, UDP-Lite, …) would make the kernel load a module for it. MPTCP is what Go tries first; ICMP is refused by the
 * link's own ping_group_range, in the words that ping expects. */
const internet = [
  { type: 1, protocols: [0, 6, 262] },
  { type: 2, protocols: [0, 17, 1, 58] },
] as const;
const rawType = 3;

function allow(names: readonly string[], args?: readonly SeccompArgument[]): SeccompRule {
  return { names, action: "SCMP_ACT_ALLOW", ...(args ? { args } : {}) };
}

function refuse(names: readonly string[], errnoRet: number, args?: readonly SeccompArgument[]): SeccompRule {
  return { names, action: "SCMP_ACT_ERRNO", errnoRet, ...(args ? { args } : {}) };
}

function equal(index: number, value: number): SeccompArgument {
  return { index, value, op: "SCMP_CMP_EQ" };
}

/** The argument's low 32 bits, as the kernel reads an int or an unsigned int. */
function low(index: number, value: number): SeccompArgument {
  return { index, value: 0xffffffff, valueTwo: value, op: "SCMP_CMP_MASKED_EQ" };
}

function masked(index: number, mask: number, value: number): SeccompArgument {
  return { index, value: mask, valueTwo: value, op: "SCMP_CMP_MASKED_EQ" };
}

/** socket(2)'s second argument without SOCK_CLOEXEC and SOCK_NONBLOCK. */
function typed(type: number): SeccompArgument {
  return { index: 1, value: 0xf, valueTwo: type, op: "SCMP_CMP_MASKED_EQ" };
}

function internetSockets(family: number): SeccompRule[] {
  const allowed = internet.flatMap(({ type, protocols }) =>
    protocols.map((protocol) => allow(["socket"], [low(0, family), typed(type), low(2, protocol)])),
  );
  return [...allowed, refuse(["socket"], EPERM, [low(0, family), typed(rawType)])];
}

function words(text: string): string[] {
  return text.split(/\s+/);
}

/**
 * For gVisor's kernel, which has the calls that it has made itself and answers ENOSYS to all others: what it should not be asked for
 * either. It knows no errno but EPERM in a filter, so that a list of what is allowed would break every fall-back.
 */
export function gvisorProfile(architecture: "x64" | "arm64"): SeccompProfile {
  const bits = Array.from({ length: 32 }, (_, bit) => (1 << bit) >>> 0).filter((bit) => (namespaceFlags & bit) !== 0);
  return {
    defaultAction: "SCMP_ACT_ALLOW",
    architectures: [architecture === "x64" ? "SCMP_ARCH_X86_64" : "SCMP_ARCH_AARCH64"],
    syscalls: [
      // It has a beginning of io_uring, which glibc never asks for.
      refuse([...words(refused), "io_uring_setup", "io_uring_enter", "io_uring_register"], EPERM),
      ...bits.map((bit) => refuse(["clone"], EPERM, [masked(0, bit, bit)])),
      // It would make device nodes for anybody, though none that could be opened.
      ...[blockDevice, characterDevice].flatMap((kind) => [
        refuse(["mknod"], EPERM, [masked(1, fileKind, kind)]),
        refuse(["mknodat"], EPERM, [masked(2, fileKind, kind)]),
      ]),
    ],
  };
}

export function seccompProfile(architecture: "x64" | "arm64"): SeccompProfile {
  return {
    defaultAction: "SCMP_ACT_ERRNO",
    defaultErrnoRet: ENOSYS,
    architectures: [architecture === "x64" ? "SCMP_ARCH_X86_64" : "SCMP_ARCH_AARCH64"],
    syscalls: [
      allow([files, memory, processes, signalsAndTime, waiting, sockets, interProcess].flatMap(words)),
      refuse(words(refused), EPERM),
      // New namespaces, by the only call whose flags a filter can read: glibc falls back from clone3 to it on ENOSYS.
      allow(["clone"], [{ index: 0, value: namespaceFlags, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" }]),
      refuse(["clone3"], ENOSYS),
      ...personalities.map((value) => allow(["personality"], [equal(0, value)])),
      ...ioctls.map((value) => allow(["ioctl"], [low(1, value)])),
      allow(["socket"], [low(0, families.unix)]),
      ...internetSockets(families.inet),
      ...internetSockets(families.inet6),
      // NETLINK_ROUTE only: getifaddrs(3) reads addresses by it; changing any takes a capability.
      allow(["socket"], [low(0, families.netlink), low(2, 0)]),
      allow(["socketpair"], [low(0, families.unix)]),
    ],
  };
}
