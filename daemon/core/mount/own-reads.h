/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Directories that the kernel reads for a call of this thread, told by fanotify: how an overlay names its
 * layers by itself. What is marked, and when, is the caller's. Events are for the whole machine: those of
 * others are taken out as well, and not told. */
#pragma once

/* fd: the directory, on the mount by which it was read; not the callee's to close. */
typedef int (*own_read_func)(int fd, void *userdata);

/* Empties the queue of fanotify_fd (FAN_REPORT_TID, FAN_NONBLOCK), for an event keeps a mount busy as long
 * as it waits there, and calls func for each event of this thread. All are taken, whatever fails; then the
 * first failure is returned: what func says, -ENOBUFS if events were lost, or what opening a directory for
 * its event says. -EMFILE, -ENFILE and -ENOMEM are of this process, the others of the directory. */
int own_reads_foreach(int fanotify_fd, own_read_func func, void *userdata);
