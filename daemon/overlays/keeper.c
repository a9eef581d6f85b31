/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "overlays/keeper.h"

#include <string.h>
#include <utlist.h>

#include "base/path-util.h"
#include "base/str.h"
#include "service/log.h"
#include "service/loop.h"
#include "service/messages.h"

/* Keepers that end before their work is done are replaced at once when it is so long since the last one did.
 */
#define AT_ONCE_USEC (60 * USEC_PER_SEC)

static void draining_done(Draining *d) {
        free(d->work_dir);
        free(d->who);
        *d = (Draining){ 0 };
}

static void keeper_free(Keeper *k) {
        KeptTree *t, *next;

        LL_DELETE(k->overlay->keepers, k);
        LL_FOREACH_SAFE(k->trees, t, next)
        free(t);
        draining_done(&k->draining);
        free(k);
}

void keeper_free_all(Managed *o) {
        while (o->keepers) {
                (void) proc_free(o->keepers->proc);
                keeper_free(o->keepers);
        }
}

unsigned managed_count_kept(const Managed *o) {
        unsigned n = 0;

        for (const Keeper *k = o->keepers; k; k = k->next)
                for (const KeptTree *t = k->trees; t; t = t->next)
                        n++;
        return n;
}

static void keeper_set(Keeper *k, const WireRecord *r) {
        KeptTree *t = k->trees;

        while (t && (strcmp(t->path, r->path) != 0 || strcmp(t->id, r->name) != 0))
                t = t->next;
        if (r->state == 0) {
                if (t)
                        LL_DELETE(k->trees, t);
                free(t);
                return;
        }
        if (!t) {
                t = malloc(sizeof(KeptTree) + strlen(r->path) + 1);
                if (!t) {
                        (void) log_oom();
                        return;
                }
                strcpy(t->path, r->path);
                strcpy(t->id, r->name);
                LL_APPEND(k->trees, t);
                log_info(
                        "Overlay '%s': the old tree of '%s' stays until %u process%s left it: %s",
                        k->overlay->config->name, r->path, r->state, r->state == 1 ? " has" : "es have",
                        r->text);
        }
        t->n_processes = r->state;
}

static void keeper_set_draining(Keeper *k, const WireRecord *r) {
        Draining *d = &k->draining;
        const char *name = k->overlay->config->name;

        if (r->state == 0) {
                if (d->work_dir)
                        log_info("Overlay '%s': the old superblock is gone", name);
                draining_done(d);
                return;
        }
        if (!d->work_dir)
                log_info("Overlay '%s': the old superblock stays until nobody uses it: %s", name, r->text);
        if (str_replace(&d->work_dir, r->path) < 0 || str_replace(&d->who, r->text) < 0)
                (void) log_oom();
        d->n_processes = r->state;
        d->is_read_only = r->error != 0;
}

static Keeper *keeper_get(Managed *o, Proc *p) {
        Keeper *k = o->keepers;

        while (k && k->proc != p)
                k = k->next;
        if (k)
                return k;
        k = malloc(sizeof(Keeper));
        if (!k)
                return NULL;
        *k = (Keeper){ .overlay = o, .proc = p, .next = o->keepers };
        o->keepers = k;
        return k;
}

static void take(Managed *o, Proc *p, const WireRecord *r, void (*func)(Keeper *k, const WireRecord *r)) {
        Keeper *k = keeper_get(o, p);

        if (!k) {
                (void) log_oom();
                return;
        }
        func(k, r);
        /* Its job is over, and it is well: a cancel that came too late ends it no more. */
        if (!o->host->is_stopping)
                proc_forget_cancel(p);
        o->events->changed(o);
}

void keeper_take_kept(Managed *o, Proc *p, const WireRecord *r) {
        take(o, p, r, keeper_set);
}

void keeper_forget(Managed *o, Proc *p) {
        for (Keeper *k = o->keepers; k; k = k->next)
                if (k->proc == p) {
                        keeper_free(k);
                        o->events->changed(o);
                        return;
                }
}

void keeper_log_note(Managed *o, const WireRecord *r) {
        _cleanup_free_ char *path = path_join(o->config->mount_point, r->path);
        LogFields f = { .message_id = MESSAGE_RECOVERED, .overlay = o->config->name, .path = path };

        log_fields(LOG_NOTICE, &f, "Overlay '%s', '%s': %s", o->config->name, path ?: r->path, r->text);
        o->counters.values[COUNTER_REPAIRS]++;
}

static void keeper_on_record(Proc *p, const WireRecord *r, void *userdata) {
        Managed *o = userdata;

        if (r->kind == WIRE_KEPT)
                keeper_take_kept(o, p, r);
        else if (r->kind == WIRE_DRAINING)
                take(o, p, r, keeper_set_draining);
        else if (r->kind == WIRE_DIRECTORY)
                (void) managed_learn(o, r);
        else if (r->kind == WIRE_NOTE)
                keeper_log_note(o, r);
}

/* Whatever made it end before its work was done, the survey finds what it has left behind: at once, since
 * somebody works there, unless keepers end like that all the time. */
static void keeper_on_end(Proc *p, ProcEnd end, int status, void *userdata) {
        Managed *o = userdata;
        uint64_t last = o->keeper_lost_usec;

        keeper_forget(o, p);
        if (end == PROC_ABANDONED || status == 0 || end == PROC_UNMOUNTED)
                return;
        o->keeper_lost_usec = loop_now(o->host->event, CLOCK_MONOTONIC);
        o->events->keeper_lost(o, last == 0 || o->keeper_lost_usec - last > AT_ONCE_USEC);
}

static const ProcHandler keeper_handler = { .on_record = keeper_on_record, .on_end = keeper_on_end };

void keeper_adopt(Managed *o, Proc *p) {
        if (!keeper_get(o, p)) {
                (void) log_oom();
                (void) proc_free(p);
                return;
        }
        proc_set_handler(p, &keeper_handler, o);
}
