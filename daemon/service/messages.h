/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Identities of the events an administrator may want to search for or act upon. What they mean, and what to
 * do, is told in units/ovlfind.catalog; a test compares the two. An event keeps its identity for good:
 * filters of journals rely on it. */
#pragma once

#define MESSAGE_DAEMON_READY "b06b1a31d8e54621b15ca1fa125451b0"
#define MESSAGE_CONFIG_WARNING "42ba4446a79f4afbac5907a16bdb6ce4"
#define MESSAGE_RELOAD_FAILED "0c076d89e5d44ba6a2d2cac7e9390d16"
#define MESSAGE_OVERLAY_ACTIVE "62877081e43b4bdc84250acf216c0a5d"
#define MESSAGE_OVERLAY_ABSENT "c2514a0655a64da682304b22eae0c2b0"
#define MESSAGE_OVERLAY_REFUSED "f3cb273267cc45918f1e9317f32493bd"
#define MESSAGE_FINALIZED "2e7043ffb2934b2aa960f6f137e599ed"
#define MESSAGE_UNFINALIZED "efbd62bc032f4f8693b2cd9c45ce5481"
#define MESSAGE_JOB_FAILED "363e24f7f846478cbe29337e85abaf5c"
#define MESSAGE_JOB_CANCELED "5293020aa21b4f018f71785d67ab7b6a"
#define MESSAGE_JOB_RESUMED "2a5f9405ae75433ab8651ced9e70d13b"
#define MESSAGE_JOB_NOTE "cb3b9bfeba744a3bba3a4d703aa70f41"
#define MESSAGE_WORKER_DIED "a296176626ec469ea5da657c219c2aa4"
#define MESSAGE_WORKER_STUCK "86fe3fa5cfb24cc5abb7de4f923f39e1"
#define MESSAGE_REMOUNTED "a99d250f46854532b539b3ff9c942597"
#define MESSAGE_WATCHING_LIMITED "eaced650911748888110b5d34da203fb"
#define MESSAGE_SOURCE_LIMITED "420f2c986594483495cbf1e338521a8b"
#define MESSAGE_JOB_PAUSED "b1cf18a1ebd44dc6abe870c7f3b00539"
#define MESSAGE_JOB_STALLED "01b3a333956a4f46ac2b535ebbecf6d3"
#define MESSAGE_RECOVERED "8466dd0298c04d77b24b403df505d4d6"
#define MESSAGE_REFRESHED "5d3c7be0a0c14f6d8d6a3b1f2c7e9a41"
#define MESSAGE_PRUNED "9be0f2b7c1de4a5ea7f04c5d8e6b3c12"
#define MESSAGE_VERIFIED "1f7a6c3e2b9d4d0c9e5b8a4f7d6c2e35"
#define MESSAGE_PROBLEMS "c6a1d9e84b7f4e2f8c3d5b6a7e9f1048"
