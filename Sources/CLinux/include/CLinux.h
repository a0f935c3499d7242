// SPDX-License-Identifier: Apache-2.0
// What Swift cannot import by itself, or may not do in a multi-threaded process. One header per subject.
#pragma once
#include "CLinuxAttach.h"
#include "CLinuxDescriptors.h"
#include "CLinuxEvents.h"
#include "CLinuxFiles.h"
#include "CLinuxFuse.h"
#include "CLinuxMount.h"
#include "CLinuxNamespaces.h"
#include "CLinuxNetwork.h"
#include "CLinuxPacketFilter.h"
#include "CLinuxSocket.h"
#include "CLinuxSpawn.h"
#include "CLinuxStorage.h"
#include "CLinuxSync.h"
#include "CLinuxTrees.h"
