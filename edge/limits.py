"""Every bound of the box, in one place, with the reason; the assertions below state how they relate.

Sizes are bytes unless the name says otherwise; the unit comes last in a name.
"""

from typing import Final

# --- the log ---------------------------------------------------------------------------------------------------------
SEGMENT_BYTES: Final = 4 * 1024 * 1024  # one zero-filled file; small enough to create in tens of ms on an SD card
BLOCK_BYTES_MAX: Final = 1024 * 1024  # one Hypercore block; a decision batch of thousands of items fits
RECORD_BYTES_MAX: Final = BLOCK_BYTES_MAX + 4096  # payload of one storage record: a block and the core's envelope
FEED_SEGMENT_BYTES: Final = 1280 * 1024  # of members' feeds, of which a box has hundreds; the largest block fits
WATERMARK_BYTES: Final = 64 * 1024  # log between updates of the watermark beside a segment's header: 6 % more pages
GROUP_RECORDS_MAX: Final = 4096  # records one fdatasync may cover
GROUP_BYTES_MAX: Final = 2 * 1024 * 1024  # a group never needs more than two segments
COMMIT_QUEUE_RECORDS_MAX: Final = 16_384  # appends waiting for a sync; beyond it the caller waits (backpressure)
COMMIT_QUEUE_BYTES_MAX: Final = 8 * 1024 * 1024  # the same bound in bytes; a few groups of the largest blocks
RECEIVE_WINDOW_S: Final = 0.02  # blocks from peers that nobody waits for: a burst shares one sync
COMMIT_WINDOW_IDLE_S: Final = 0.25  # nobody waits: gather, because each sync costs a 4 KiB page of flash
INTEGER_MAX: Final = 2**53 - 1  # lengths and indexes are JavaScript doubles at the other end
SIGNERS_MAX: Final = 64  # of one manifest; a consortium's roster has far fewer
FEEDS_MAX: Final = 4096  # named cores of one store; its registry is read and replaced as a whole
FEED_EPOCHS_MAX: Final = 4096  # successors of one name; one after each restored backup and each revocation
CORES_OPEN_MAX: Final = 64  # cores of a store that nobody uses stay open up to here; 12 descriptors each at most
LENDING_CLIENTS_MAX: Final = 32  # other processes that use the cores of a serving one; each may hold a few MB of frames
SIGNATURE_BYTES_MAX: Final = 8192  # a core's signature record: SIGNERS_MAX parts of 68 bytes, and room
PARTIAL_SIGNATURES_MAX: Final = 1024  # signatures of a multi-signer core that still wait for a quorum; 100 bytes each
TREE_BUFFER_NODES_MAX: Final = 65_536  # tree nodes held while their derived file cannot be written; about 10 MB
LINKED_CORES_MAX: Final = 64  # keys that a manifest may name beside its own
MANIFEST_USER_DATA_BYTES_MAX: Final = 16 * 1024  # free bytes of a manifest; it is sent before anything is trusted
CBOR_DEPTH_MAX: Final = 16  # nesting of a record; ours use 5
CBOR_ITEMS_MAX: Final = 131_072  # of one record: a book of ITEMS_MAX prices fits; decodes to at most about 10 MB
CBOR_TEXT_BYTES_MAX: Final = 64 * 1024  # one text; byte strings (columns of numbers) may fill the block

# --- the tills -------------------------------------------------------------------------------------------------------
RECEIPT_BYTES_MAX: Final = 16 * 1024  # one MQTT message; a receipt of RECEIPT_LINES_MAX lines fits
RECEIPT_LINES_MAX: Final = 128
LANES_MAX: Final = 256  # enrolled tills of one shop
EPOCHS_PER_LANE_MAX: Final = 4096  # boot epochs remembered per lane; a till opens one only after losing its spool
REORDER_WINDOW: Final = 65_536  # sequences beyond the contiguous prefix that are remembered, per lane and epoch
INTAKE_QUEUE_MAX: Final = 8192  # receipts parsed but not yet durable; beyond it the broker holds them
ITEMS_MAX: Final = 50_000  # 20,000 is a large supermarket's shelf; room for seasonal items
LABEL_CHARS_MAX: Final = 64  # SKU, lane, category, names in keys
NAME_CHARS_MAX: Final = 120  # item names

# --- memory and pricing ----------------------------------------------------------------------------------------------
MEMORY_BYTES_MAX: Final = 32 * 1024 * 1024  # the price memory; about a third of what the whole box may hold
MEMORY_POSITIONS_MAX: Final = 131_072  # receipts that a post-void can still cancel: a month of a busy shop, 2 MB
MEMORY_VOIDS_MAX: Final = 65_536  # cancellations remembered, 100 bytes each; one receipt in 200 is usual
MEMORY_UNLISTED_MAX: Final = 8192  # SKUs sold that no item file has named; a till with wrong data adds no more
HISTORY_WEEKS_MAX: Final = 160  # three years and a bit: two seasons for every estimate
TREND_CATEGORIES_MAX: Final = 2048  # whose trends are followed: an assortment has some hundred; 1 KB each when empty
CATEGORY_ITEMS_MAX: Final = 1024  # items priced together; larger categories are priced in parts
PRICE_MINOR_MAX: Final = 100_000_000  # one million currency units at two decimals
POLICY_BYTES_MAX: Final = 4 * 1024 * 1024  # a policy file; two layers of 256 and golden vectors take about 0.4 MB
COST_E4_MAX: Final = 10_000_000_000  # the same in 1/10,000 of a currency unit

# --- what shops share ------------------------------------------------------------------------------------------------
SHARED_ROWS_MAX: Final = 4096  # of one payload: a category of CATEGORY_ITEMS_MAX items at four prices a day
DAYBOOK_DAYS_MAX: Final = 62  # business days whose totals wait to go out; two months without one that closes
MESSAGE_BYTES_MAX: Final = 512 * 1024  # one network message; 4,096 rows of the longest kind take 350 kB
EPOCHS_READ_MAX: Final = 8  # newest key epochs of a writer whose feeds are still accepted; two years of quarters
NETWORK_MEMORY_BYTES_MAX: Final = 40 * 1024 * 1024  # what the members of one network said; 40 kB each of 1,000
DUE_AT_ONCE_MAX: Final = 512  # records told in one go; what a week's figures of a large shop need
BULK_WAITING_MAX: Final = 2048  # blocks of ours that nobody has fetched, before days wait: a month of 60 categories
ACCEPT_AT_ONCE_MAX: Final = 256  # arrivals read in one go; 512 kB each at most, the reader stops earlier
ACCEPT_STEP: Final = 16  # arrivals between two turns of the loop: 5 ms on a small box
SAID_TAIL_MAX: Final = 8192  # blocks of an own feed that are read at the start, to know what has been said
POOLED_ANSWERS_MAX: Final = 8192  # items of which the pooled answer is kept, in all categories; 1.4 kB each
RELEASE_CELLS_MAX: Final = 4096  # categories and items of one noised release; 250 bytes of sums each, a window
RELEASE_BYTES_MAX: Final = 512 * 1024  # of one noised release, as the privacy ledger keeps it; 20 categories take 3 kB
RELEASE_CHARGES_MAX: Final = 8  # accounts that one release is charged to; there are two units of protection
RELEASE_SOURCES_MAX: Final = 256  # releases that one is derived from: two years of weeks and as much again
RELEASES_KEPT_WEEKS: Final = 160  # after it a release is forgotten and its weeks are closed; lags are at most 104

NETWORK_FEEDS_OPEN_MAX: Final = 240  # of others in one network; 4 descriptors each. The rest is looked at in turns
NETWORK_READ_BYTES: Final = 4 * 1024 * 1024  # of blocks handed to a reader at once; eight of the largest messages
NETWORK_LOOK_S: Final = 600.0  # between two looks at feeds that are not kept open
NETWORK_CATCH_UP_S: Final = 30.0  # for one feed of an older epoch, before the next one has its turn

# --- peers on the network --------------------------------------------------------------------------------------------
FRAME_BYTES_MAX: Final = 8 * 1024 * 1024 + BLOCK_BYTES_MAX + 64 * 1024  # a stock batch closes once it reaches 8 MiB
BATCH_BYTES: Final = 256 * 1024  # where we close ours: large enough for the cipher, small enough to answer in between
BATCH_ITEMS_MAX: Final = 131_072  # of one batch; decoding them holds the loop for some tens of ms
BATCH_RUN_ITEMS_MAX: Final = 4096  # handed over at once, so that tiny messages cannot fill the memory: 0.5 MB
CHANNELS_MAX: Final = 8192  # of one connection, either side's; FEEDS_MAX cores and a metadata channel each
OPEN_REQUESTS_MAX: Final = 256  # channels a peer asked for and we have not answered; beyond it: rejected
CHANNEL_NAME_BYTES_MAX: Final = 256  # protocol, and id, of a channel
CHANNEL_HANDSHAKE_BYTES_MAX: Final = 64 * 1024  # the open message's own payload
UNPAIRED_BYTES_MAX: Final = 256 * 1024  # messages of channels not answered yet; stock peers pause beyond 32 KiB
UNPAIRED_MESSAGE_COST: Final = 128  # bookkeeping of one such message, counted with its bytes
STRIKES_MAX: Final = 64  # invalid messages before a peer is dropped and banned; one can be a race
FAULTS_MAX: Final = 32  # broken handshakes or framings within BAN_S before an address is banned; a port scan makes some
BAN_S: Final = 600.0  # how long a ban lasts, and how long a fault is remembered
BANS_MAX: Final = 4096  # keys and addresses remembered; the oldest is forgotten first
CONNECTIONS_MAX: Final = 256  # of one listener
CONNECTIONS_PER_ADDRESS_MAX: Final = 32  # a chain's shops may share one address behind a gateway
HALF_OPEN_MAX: Final = 128  # connections without a finished handshake; beyond it the oldest makes room: 10 KB each
HALF_OPEN_PER_ADDRESS_MAX: Final = 16  # of one address; whoever opens more is at fault
STRANGER_S: Final = 5.0  # without a channel that both sides opened, before a connection must make room for others
STRANGERS_CPU_SHARE: Final = 0.04  # of a core, for all who have proved nothing yet, while others are served ...
STRANGERS_CPU_SHARE_QUIET: Final = 0.5  # ... and while nobody is: a chain's shops may come back all at once
STRANGERS_CPU_BURST_S: Final = 0.05  # saved for them from a quiet time
SERVING_S: Final = 2.0  # after a peer was served something larger, others are still thought to be served
WAITING_MAX: Final = 32  # of them at once, for their turn; beyond it one of them goes, whichever
REGULARS_MAX: Final = 1024  # addresses remembered because a peer was served there; strangers cannot crowd them out
STRIKE_FORGED: Final = 8  # strikes for what no race explains: a proof or capability that is wrong
ACCEPTS_AT_ONCE_MAX: Final = 32  # connections accepted before others get their turn
ACCEPT_RETRY_S: Final = 1.0  # after the system had no descriptor or memory for another connection
LISTEN_BACKLOG: Final = 128  # connections that the system keeps for us meanwhile
HANDSHAKE_TIMEOUT_S: Final = 10.0  # from the first byte possible to the peer's header
KEEPALIVE_S: Final = 5.0  # of write idleness; the stock peers' figure
IDLE_TIMEOUT_S: Final = 6 * KEEPALIVE_S  # without one byte from the peer
FRAME_TIMEOUT_S: Final = 30.0  # to complete a frame once begun ...
FRAME_RATE_MIN: Final = 16 * 1024  # ... and a second more for so many bytes of it
PARTIAL_BYTES_MAX: Final = 2 * FRAME_BYTES_MAX  # unfinished frames of all of a listener's connections together
WRITE_START_BYTES: Final = 64 * 1024  # the same for a new peer; doubled each time that it has read so much
WRITE_UNSENT_BYTES: Final = 128 * 1024  # that the system keeps for us beside what is on its way to the peer
WRITE_HIGH_BYTES: Final = 1024 * 1024  # waiting to be sent: above it a connection is congested ...
WRITE_LOW_BYTES: Final = 256 * 1024  # ... until it falls below this
WRITE_BYTES_MAX: Final = 4 * FRAME_BYTES_MAX  # a peer that lets so much pile up does not read: dropped
WRITE_TOTAL_BYTES_MAX: Final = 32 * 1024 * 1024  # of all of a listener's congested connections; the slowest goes first
STALL_TIMEOUT_S: Final = 60.0  # congested for so long without a byte leaving
CLOSE_TIMEOUT_S: Final = 5.0  # for what is still to be sent when a connection is closed

# --- drives of files --------------------------------------------------------------------------------------------------
BLOB_BLOCK_BYTES: Final = 64 * 1024  # one block of a blob, as stock peers cut them; fewer would be costlier to prove
BLOB_APPEND_BLOCKS: Final = 16  # blocks of a blob that are written together: 1 MB of memory, one sync
BLOB_READ_AHEAD_BLOCKS: Final = (
    16  # blocks requested at once of a blob read from peers: 1 MB, 16 MB if they are hostile
)
BLOB_MAP_BLOCKS_MAX: Final = 64  # blocks that list the blocks of a deduplicated blob; stock peers allow as many
BLOB_BYTES_AT_ONCE_MAX: Final = 64 * 1024 * 1024  # of a blob returned in one piece; larger ones are read as a stream
PATH_BYTES_MAX: Final = 4096  # a file's path in a drive; Linux allows no more either
PATH_PART_BYTES_MAX: Final = 255  # one name in a path that becomes a file
DRIVE_ENTRY_BYTES_MAX: Final = 64 * 1024  # what the database says of one file; 150 bytes without metadata
DRIVE_METADATA_DEPTH_MAX: Final = 32  # nesting of the JSON of an entry
DRIVE_FILES_MAX: Final = 100_000  # files that are mirrored into a folder; their names are held meanwhile, 20 MB
SYMLINKS_FOLLOWED_MAX: Final = 16  # one after the other, as stock peers follow them

# --- proofs ----------------------------------------------------------------------------------------------------------
PROOF_NODES_MAX: Final = 128  # of one kind in one proof; 52 roots and 52 siblings are the most that 2^53 blocks need
PATCH_NODES_MAX: Final = 64  # in one signature, where signers signed different lengths; fits SIGNATURE_BYTES_MAX
CONFLICT_BYTES_MAX: Final = 128 * 1024  # two upgrades, two signatures and a manifest, each at its own bound

CORE_BLOCKS_MAX: Final = 2**36  # of a log that is followed: its node file, 5.5 TB with holes, is one that ext4 can hold

# --- replication -----------------------------------------------------------------------------------------------------
REQUESTS_IN_FLIGHT_MAX: Final = 512  # asked of one peer for one core; stock peers accept as many
REQUESTS_IN_FLIGHT_START: Final = 64  # until a peer has shown that it answers
REQUEST_BATCH: Final = 64  # requests that are sent together, so that answers come together too
REQUEST_BYTES_IN_FLIGHT_MAX: Final = 4 * 1024 * 1024  # of one peer, by the average size of the blocks it sent so far
REQUEST_TIMEOUT_MIN_S: Final = 4.0  # silence of a peer that owes answers, before others are asked ...
REQUEST_TIMEOUT_MAX_S: Final = 30.0  # ... more on links with a long round trip
PEER_SILENCE_S: Final = 30.0  # a command that waits for blocks gives up after so long without any
HOTSWAP_AFTER_S: Final = 1.0  # requests that wait for longer are taken over by a peer that has nothing to do
HOTSWAP_REQUESTS_MAX: Final = 64  # at once
PEER_BACKOFF_S: Final = 2.0  # a peer that did not deliver is not asked for so long; doubled each time ...
PEER_BACKOFF_MAX_S: Final = 120.0  # ... up to here
REFUSALS_MAX: Final = 32  # requests that a peer answers with "not available" before it is left alone for a while
STASH_REPLIES_MAX: Final = (
    512  # of one peer: blocks whose proof leads to a node that an earlier answer still brings ...
)
STASH_BYTES_MAX: Final = 8 * 1024 * 1024  # ... and their bytes
BACKLOG_BYTES_MAX: Final = 4 * 1024 * 1024  # of a core, accepted and not yet durable; beyond it nothing is requested
REQUESTS_QUEUED_MAX: Final = 1024  # of one peer, while it does not read our answers; twice what it can have in flight
WANTS_MAX: Final = 512  # stretches that a peer wants to hear about; beyond it, it hears about all blocks
WANTS_PER_S_MAX: Final = 64  # answered with bitfields; each costs up to 64 messages of 4 KiB
WANT_BLOCKS: Final = 2**21  # one want of ours, as stock peers ask
BITFIELD_BITS_MAX: Final = 32_768  # of one message that we send, a page of the stock peers ...
BITFIELD_BYTES_MAX: Final = 256 * 1024  # ... and of one that we take: a whole want
REMOTE_EDGES_MAX: Final = 65_536  # starts and ends of stretches that one peer holds of one core; 3 MB at most
PEERS_PER_CORE_MAX: Final = 256
CORES_PER_SESSION_MAX: Final = 1024  # open at once over one connection
UNKNOWN_CORES_MAX: Final = 1024  # that a peer may ask for, and we do not have, before it is taken for a scanner
REOPENINGS_MAX: Final = 16  # of one core's channel in a row without a block coming of it
EXTENSION_NAME_CHARS_MAX: Final = 256  # remembered for each channel and direction, because it need not be repeated
LAST_BLOCKS: Final = 256  # at the end of a log, that are announced even to peers that did not ask for them
PROMISES_MAX: Final = 4096  # tree nodes that answers under way will bring, before those that came are forgotten

# --- trees of keys ---------------------------------------------------------------------------------------------------
TREE_DEPTH_MAX: Final = 32  # nodes from root to leaf; five children each hold more keys than a log has blocks
TREE_CACHE_BYTES_MAX: Final = 24 * 1024 * 1024  # decoded nodes, keys and blocks of one Hyperbee; 100,000 short keys

# --- membership of networks ------------------------------------------------------------------------------------------
ROSTER_MEMBERS_MAX: Final = 1500  # of one network: a new key epoch is one group of a seal and a discarded seal for each
ROSTER_INVITES_MAX: Final = 1500  # remembered invitations of one network, used ones too until they would have expired
ROSTER_REVOKED_MAX: Final = 8192  # former members; each costs a reader 300 bytes
ROSTER_ENTRY_BYTES_MAX: Final = 8192  # one value of a roster; a policy takes 700, a member 300
ROSTER_AUTHORITIES_MAX: Final = 16  # who signs one roster; each change is carried to a quorum of them by people
SEALED_EPOCHS_KEPT: Final = 8  # whose sealed secrets a roster keeps: a box that was off for two years catches up
REASON_CHARS_MAX: Final = 200  # why somebody was revoked
JOIN_BYTES_MAX: Final = 4096  # one request to join, or the answer; a consortium member's takes 700
JOIN_TIMEOUT_S: Final = 20.0  # for the authority's answer: it signs, syncs and seals meanwhile
PROPOSAL_BYTES_MAX: Final = 8 * 1024 * 1024  # a change that waits for signatures: at most a group of blocks
ROSTER_CHANGE_WAIT_S: Final = 5.0  # for another process of this box that changes the same roster

# --- sums between owners ---------------------------------------------------------------------------------------------
SUM_MEMBERS_MAX: Final = 128  # of one group; each member's work grows with them: 128 X25519 agreements, 20 KB sent
SUM_VALUES_MAX: Final = 4096  # coordinates of one sum: more than the items that one release can name usefully
SUM_ITEMS_MAX: Final = 256  # of one category that a sum can name: two values each
SUM_CATEGORIES_MAX: Final = 256  # that sums of one network speak of in turns; an assortment has some sixty
SUM_EARLY_BYTES_MAX: Final = 2 * 1024 * 1024  # of blocks of rounds not known here yet; a start reads them again
SUM_MESSAGE_BYTES_MAX: Final = 64 * 1024  # 4,096 masked values of 7 bytes, or 128 members' shares, fit

# --- health ----------------------------------------------------------------------------------------------------------
METRIC_SERIES_MAX: Final = 400  # of one box; a chain's Prometheus holds ten thousand boxes
METRIC_BUCKETS_MAX: Final = 10  # of one histogram, +Inf apart
HEALTH_CHECKS_MAX: Final = 32  # named checks; each is a metric series and a line of `pomona status`

assert GROUP_BYTES_MAX <= SEGMENT_BYTES
assert RECORD_BYTES_MAX + SIGNATURE_BYTES_MAX + WATERMARK_BYTES <= FEED_SEGMENT_BYTES <= SEGMENT_BYTES
assert BLOB_APPEND_BLOCKS * BLOB_BLOCK_BYTES <= GROUP_BYTES_MAX // 2
assert DRIVE_ENTRY_BYTES_MAX + PATH_BYTES_MAX <= BLOCK_BYTES_MAX // 2
assert RECORD_BYTES_MAX <= GROUP_BYTES_MAX <= COMMIT_QUEUE_BYTES_MAX
assert RECEIPT_BYTES_MAX <= BLOCK_BYTES_MAX
assert RELEASE_BYTES_MAX <= BLOCK_BYTES_MAX // 2
assert MESSAGE_BYTES_MAX <= BLOCK_BYTES_MAX
assert CATEGORY_ITEMS_MAX <= SHARED_ROWS_MAX
assert INTAKE_QUEUE_MAX <= COMMIT_QUEUE_RECORDS_MAX
assert BLOCK_BYTES_MAX + BATCH_BYTES < FRAME_BYTES_MAX < 2**24 - 17
assert BATCH_BYTES <= WRITE_LOW_BYTES < WRITE_HIGH_BYTES < WRITE_BYTES_MAX
assert KEEPALIVE_S < IDLE_TIMEOUT_S
assert 2 * REQUESTS_IN_FLIGHT_MAX <= REQUESTS_QUEUED_MAX
assert BITFIELD_BYTES_MAX * 8 >= WANT_BLOCKS
assert 7 * SUM_VALUES_MAX + 128 <= SUM_MESSAGE_BYTES_MAX <= BLOCK_BYTES_MAX
assert 2 * SUM_ITEMS_MAX <= SUM_VALUES_MAX
assert 144 * SUM_MEMBERS_MAX + 128 <= SUM_MESSAGE_BYTES_MAX
assert 2 * ROSTER_MEMBERS_MAX + 2 * ROSTER_AUTHORITIES_MAX + 64 <= GROUP_RECORDS_MAX
