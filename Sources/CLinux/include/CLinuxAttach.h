// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Attaches a detached mount at directory/name as seen in another mount namespace; the place must exist there.
///
/// No symbolic link is followed on the way, so that whoever owns that namespace cannot redirect it.
/// Returns 0 or -errno.
int clinux_attach_mount_in(int mount_namespace, int mount, const char *directory, const char *name);

/// Takes the mount at directory/name out of another mount namespace (MNT_DETACH). Returns 0 or -errno.
int clinux_detach_mount_in(int mount_namespace, const char *directory, const char *name);
