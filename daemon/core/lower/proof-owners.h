/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether the mount of a layer's path has the id map of the overlay's own mount of that layer, as far as its
 * first entries show: for a new superblock, which is made of the path. */
#pragma once

/* 0; -EREMCHG: an entry has another owner by its path; -ENOMEM. Blocks on the layer. */
int proof_owners(int layer_fd, int path_fd);
