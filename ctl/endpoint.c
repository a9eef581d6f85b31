/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/endpoint.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "base/utf8.h"

static int open_address(const char *address, sd_bus **ret) {
        _cleanup_(sd_bus_unrefp) sd_bus *bus = NULL;
        int r;

        if ((r = sd_bus_new(&bus)) < 0 || (r = sd_bus_set_address(bus, address)) < 0 ||
            (r = sd_bus_set_bus_client(bus, true)) < 0 || (r = sd_bus_start(bus)) < 0)
                return r;
        *ret = TAKE_PTR(bus);
        return 0;
}

int endpoint_open(const Endpoint *e, sd_bus **ret) {
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
        const char *name;
        int r;

        if (e->host)
                r = sd_bus_open_system_remote(&bus, e->host);
        else if (e->machine)
                r = sd_bus_open_system_machine(&bus, e->machine);
        else
                r = e->address ? open_address(e->address, &bus) : sd_bus_open_system(&bus);
        if (r < 0)
                return r;
        r = sd_bus_get_unique_name(bus, &name); /* waits for the end of the handshake */
        if (r < 0)
                return r;
        *ret = TAKE_PTR(bus);
        return 0;
}

char *endpoint_text(const Endpoint *e) {
        _cleanup_free_ char *name = utf8_escape_line(e->host ?: e->machine ?: "");

        if (!name || !endpoint_is_remote(e))
                return TAKE_PTR(name);
        return str_format(" of %s '%s'", e->host ? "host" : "machine", name);
}

/* Where execvp(), which sd-bus uses, would find it. */
static bool program_is_there(const char *name) {
        const char *folders = getenv("PATH") ?: "/bin:/usr/bin";

        while (*folders) {
                size_t n = strcspn(folders, ":");
                char path[PATH_MAX];

                (void) snprintf(path, sizeof(path), "%.*s/%s", (int) n, folders, name);
                if (access(path, X_OK) == 0)
                        return true;
                folders += n + (folders[n] == ':');
        }
        return false;
}

static char *host_advice(const char *host, int r) {
        _cleanup_free_ char *name = utf8_escape_line(host);

        if (!name || r == -EINVAL)
                return strdup("; it is written [USER@]HOST[:PORT]");
        if (!program_is_there("ssh"))
                return strdup("; there is no program 'ssh' here: install it (package openssh-client)");
        return str_format(
                "; ssh tells why above. 'ssh %s systemd-stdio-bridge --version' has to work: ssh must let "
                "you "
                "in, and systemd be installed there",
                name);
}

static char *machine_advice(const char *machine, int r) {
        switch (r) {
        case -EINVAL:
                return strdup("; it is written [USER@]NAME");
        case -EHOSTDOWN:
                return strdup(
                        "; no container of that name runs here: 'machinectl list' shows those that do");
        case -EIO:
                return strdup("; is it a virtual machine? Then use --host=");
        case -EACCES:
        case -EPERM:
                return strdup("; only root may enter a container: use sudo");
        case -ENOENT:
        case -ECONNREFUSED:
                return strdup("; no system bus runs in there: is dbus installed, and systemd booted?");
        default:
                break;
        }
        /* Another user's bus there is reached by this program. */
        if (strchr(machine, '@') && !program_is_there("systemd-run"))
                return strdup("; there is no program 'systemd-run' here, which USER@ needs");
        return NULL;
}

char *endpoint_advice(const Endpoint *e, int r) {
        if (e->host)
                return host_advice(e->host, r);
        return e->machine ? machine_advice(e->machine, r) : NULL;
}
