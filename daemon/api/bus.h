/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The bus as the manager sees it: connected, with all objects, until it is closed. The vtables behind it
 * only decode, call and encode. Without the bus there is no daemon: when the name is taken or the
 * connection is lost, the loop ends. */
#pragma once

#include "manager/manager.h"

/* Connects, adds the objects, asks for the name; manager_is_named() is called when it is there. */
int bus_open(Manager *m);
void bus_close(Manager *m);
