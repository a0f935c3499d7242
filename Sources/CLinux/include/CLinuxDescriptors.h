// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Most descriptors that one message may carry.
#define CLINUX_DESCRIPTORS_MAX 16
/// As many as the kernel lets be sent at once. What does not fit it closes itself, in the thread that receives, for
/// as long as the sender likes.
#define CLINUX_RECEIVED_MAX 253

/// Sends bytes with descriptors attached to the first of them. Returns bytes sent or -errno. Never raises SIGPIPE.
ssize_t clinux_send(int socket, const void *bytes, size_t count, const int *descriptors, int descriptor_count);

/// Receives bytes and descriptors (opened close-on-exec); *descriptor_count is set to how many came.
///
/// Returns bytes, 0 at the end, or -errno. `descriptors` has room for CLINUX_RECEIVED_MAX.
ssize_t clinux_receive(int socket, void *bytes, size_t count, int *descriptors, int *descriptor_count);

/// splice(2) from, or write(2) to, a terminal that somebody else may make blocking at any moment: after 50 ms or little
/// more of waiting they return -EINTR. A write that was held up for that long otherwise does so too, before it began.
/// Returns bytes or -errno.
ssize_t clinux_splice_terminal(int from, int to, size_t count);
ssize_t clinux_write_terminal(int descriptor, const void *bytes, size_t count);

/// splice(2) without blocking on either side; offsets may be NULL. Returns bytes, 0 at the end, or -errno.
ssize_t clinux_splice(int from, int64_t *from_offset, int to, int64_t *to_offset, size_t count);

/// pipe2(O_CLOEXEC) with a capacity (0 for the default). Read end [0], write end [1]. Returns 0 or -errno.
int clinux_pipe(int ends[2], int capacity);

/// fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE). Returns 0 or -errno.
int clinux_punch_hole(int descriptor, int64_t offset, int64_t count);

/// Opens a new terminal of /dev/ptmx as this process sees it. Returns 0 or -errno; both ends are close-on-exec.
int clinux_open_terminal(int *master, int *slave, uint16_t rows, uint16_t columns);
int clinux_set_terminal_size(int descriptor, uint16_t rows, uint16_t columns);
/// The foreground process group of a terminal, or -errno.
pid_t clinux_foreground_group(int master);

/// memfd_create(2), close-on-exec. Returns a descriptor or -errno.
int clinux_memory_file(const char *name);
int clinux_set_nonblocking(int descriptor, int nonblocking);
/// ioctl FIONREAD, or -errno.
int clinux_readable_bytes(int descriptor);
