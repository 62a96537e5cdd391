/* SPDX-License-Identifier: MIT */
/* The only list of ClaudeFS errors that are not plain errno values. No include guard: X-macro.
 *
 * X(name, number, errno for POSIX callers, retry class, text)
 * Retry class: NEVER   the caller's request is at fault or the damage is final
 *              LATER   the same request to the same place may succeed after a short wait
 *              REMAP   fetch a newer map first, then send the request to whom it names
 * Numbers are on the wire: append only, never reuse. */
X(ERR_CORRUPT_WIRE, 2049, EPROTO, NEVER, "malformed message")
X(ERR_CORRUPT_DISK, 2050, EIO, NEVER, "checksum or structure error on disk")
X(ERR_CORRUPT_DATA, 2051, EIO, NEVER, "data fails its checksum")
X(ERR_WRONG_VERSION, 2052, EPROTO, NEVER, "protocol or format version not supported")
X(ERR_WRONG_CLUSTER, 2053, EPROTO, NEVER, "belongs to another cluster")
X(ERR_NOT_FORMATTED, 2054, EINVAL, NEVER, "device holds no ClaudeFS store")
X(ERR_NOT_PRIMARY, 2055, EAGAIN, REMAP, "this node is not the primary of the group")
X(ERR_WRONG_EPOCH, 2056, EAGAIN, REMAP, "group epoch differs")
X(ERR_STALE_MAP, 2057, EAGAIN, REMAP, "cluster map is out of date")
X(ERR_NOT_LEADER, 2058, EAGAIN, REMAP, "this node does not lead the map group")
X(ERR_NO_LEASE, 2059, EAGAIN, LATER, "node lease has run out")
X(ERR_RECOVERING, 2060, EAGAIN, LATER, "group is recovering")
X(ERR_BUSY, 2061, EAGAIN, LATER, "resource is locked or a queue is full")
X(ERR_CONN_LOST, 2062, EAGAIN, REMAP, "connection was lost before the reply came")
X(ERR_CONN_REFUSED, 2063, EAGAIN, REMAP, "no process listens at the address")
X(ERR_TIMED_OUT, 2064, EIO, REMAP, "no answer before the deadline")
X(ERR_FENCED, 2065, EIO, REMAP, "the node's device has failed, the node is ending")
X(ERR_CANCELED, 2066, EINTR, NEVER, "canceled")
X(ERR_NOT_INLINE, 2067, EAGAIN, LATER, "file data is not inline")
X(ERR_NO_SPACE, 2068, ENOSPC, NEVER, "no space left")
X(ERR_CAS_FAILED, 2069, EAGAIN, REMAP, "state changed meanwhile")
X(ERR_NO_QUORUM, 2070, EAGAIN, LATER, "too few members are available")
X(ERR_UNKNOWN_RPC, 2071, EOPNOTSUPP, NEVER, "peer does not know this request")
X(ERR_GAP, 2072, EAGAIN, LATER, "log record out of sequence")
X(ERR_NEED_SCAN, 2073, EAGAIN, LATER, "log no longer reaches back far enough")
X(ERR_TXN_ABORTED, 2074, EAGAIN, LATER, "transaction was aborted, try again")
X(ERR_TRUNCATED, 2075, EAGAIN, NEVER, "the file was truncated since the caller looked at it")
