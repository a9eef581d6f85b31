/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The bus as the manager sees it. The vtables behind it only decode, call and encode. */
#pragma once

#include "manager/manager.h"

/* Connects, adds the objects, asks for the name; manager_is_named() is called when it is there. */
int bus_open(Manager *m);
void bus_close(Manager *m);
