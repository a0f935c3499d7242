// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinuxStorage.h"

#include <errno.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

// Absent from headers before Linux 6.7.
#ifndef BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA
#define BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA 4
#endif

int clinux_btrfs_quota_enable(int descriptor) {
    struct btrfs_ioctl_quota_ctl_args arguments;
    memset(&arguments, 0, sizeof arguments);
    arguments.cmd = BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA;
    return ioctl(descriptor, BTRFS_IOC_QUOTA_CTL, &arguments) < 0 ? -errno : 0;
}

int clinux_btrfs_quota_group(int descriptor, uint64_t group, int exists) {
    struct btrfs_ioctl_qgroup_create_args arguments;
    memset(&arguments, 0, sizeof arguments);
    arguments.create = exists ? 1 : 0;
    arguments.qgroupid = group;
    return ioctl(descriptor, BTRFS_IOC_QGROUP_CREATE, &arguments) < 0 ? -errno : 0;
}

int clinux_btrfs_quota_join(int descriptor, uint64_t member, uint64_t group) {
    struct btrfs_ioctl_qgroup_assign_args arguments;
    memset(&arguments, 0, sizeof arguments);
    arguments.assign = 1;
    arguments.src = member;
    arguments.dst = group;
    return ioctl(descriptor, BTRFS_IOC_QGROUP_ASSIGN, &arguments) < 0 ? -errno : 0;
}

int clinux_btrfs_quota_limit(int descriptor, uint64_t group, uint64_t bytes) {
    struct btrfs_ioctl_qgroup_limit_args arguments;
    memset(&arguments, 0, sizeof arguments);
    arguments.qgroupid = group;
    arguments.lim.flags = BTRFS_QGROUP_LIMIT_MAX_RFER;
    // All ones take a limit away.
    arguments.lim.max_rfer = bytes == 0 ? UINT64_MAX : bytes;
    return ioctl(descriptor, BTRFS_IOC_QGROUP_LIMIT, &arguments) < 0 ? -errno : 0;
}

enum { buffer_bytes = 256 << 10 };

int clinux_btrfs_extents(int subvolume, clinux_extent_cursor *cursor, clinux_extent *extents, int capacity) {
    struct btrfs_ioctl_search_args_v2 *search = malloc(sizeof *search + buffer_bytes);
    if (search == NULL) return -ENOMEM;
    int found = 0;
    // An item of contents takes at least a header and its fixed part, so that a whole buffer fits.
    size_t smallest = sizeof(struct btrfs_ioctl_search_header) + sizeof(struct btrfs_file_extent_item);
    int result = (size_t)capacity < buffer_bytes / smallest ? -EINVAL : 0;
    while (result == 0 && !cursor->done && found == 0) {
        memset(&search->key, 0, sizeof search->key);
        search->key.min_objectid = cursor->object;
        search->key.min_type = cursor->type;
        search->key.min_offset = cursor->offset;
        search->key.max_objectid = search->key.max_offset = search->key.max_transid = UINT64_MAX;
        search->key.max_type = UINT32_MAX;
        search->key.nr_items = UINT32_MAX;
        search->buf_size = buffer_bytes;
        if (ioctl(subvolume, BTRFS_IOC_TREE_SEARCH_V2, search) < 0) {
            result = -errno;
            break;
        }
        if (search->key.nr_items == 0) cursor->done = 1;
        const char *place = (const char *)search->buf;
        for (uint32_t i = 0; i < search->key.nr_items; i++) {
            struct btrfs_ioctl_search_header header;
            memcpy(&header, place, sizeof header);
            place += sizeof header;
            if (header.type == BTRFS_EXTENT_DATA_KEY && header.len >= sizeof(struct btrfs_file_extent_item)) {
                struct btrfs_file_extent_item item;
                memcpy(&item, place, sizeof item);
                // Holes have no place; what is inline lies in the structure itself.
                if (item.type != BTRFS_FILE_EXTENT_INLINE && item.disk_bytenr != 0)
                    extents[found++] = (clinux_extent){item.disk_bytenr, item.disk_num_bytes};
            }
            place += header.len;
            cursor->object = header.objectid;
            cursor->type = header.type;
            cursor->offset = header.offset;
        }
        // The next key in order: object, then type, then offset.
        if (search->key.nr_items > 0 && ++cursor->offset == 0 && ++cursor->type > UINT8_MAX) {
            cursor->type = 0;
            cursor->object++;
        }
    }
    free(search);
    return result < 0 ? result : found;
}
