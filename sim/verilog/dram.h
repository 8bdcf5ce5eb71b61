// SPDX-License-Identifier: BSD-2-Clause
// The functional DRAM of one channel: banks with open rows behind command and data buses.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <unordered_map>
#include <vector>

#include "logicpim.h"

// One DRAM command; the layout of logicpim.sim.dram.trace.TRACE_DTYPE.
struct Record {
    uint64_t clock;  // nCK
    uint8_t command, rank, bank_group, bank;
    uint32_t row;
    uint16_t column;
};
static_assert(sizeof(Record) == 24, "the layout of TRACE_DTYPE");

constexpr uint32_t power_above(uint32_t latency) {
    uint32_t power = 2;
    while (power <= latency) power *= 2;
    return power;
}

// Garbage that a read bus carries without data: never the same twice in a row.
class Garbage {
public:
    explicit Garbage(uint64_t seed) : table_(1 << 16) {
        uint64_t x = seed * 2 + 1;
        for (auto& byte : table_) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            byte = uint8_t(x >> 32);
        }
    }
    const uint8_t* operator()(size_t bytes) {
        at_ = (at_ + 1237) % (table_.size() - bytes);
        return &table_[at_];
    }

private:
    std::vector<uint8_t> table_;
    size_t at_ = 0;
};

#if LOGICPIM_CHECK_BYTES
// The check byte of a part of 64 data bits.
inline uint8_t check_of(const uint8_t* part) {
    constexpr uint64_t rows[8] = {LOGICPIM_ECC_ROWS};
    uint64_t data;
    std::memcpy(&data, part, 8);
    uint8_t check = 0;
    for (int r = 0; r < 8; r++) check |= (__builtin_popcountll(data & rows[r]) & 1) << r;
    return check;
}
#else
inline uint8_t check_of(const uint8_t*) { return 0; }
#endif

// The side band of stored granules, as its difference from what the code makes of the data: zero
// but for faults, so the back door needs no encoder and only faults take memory.
class SideBand {
public:
    static constexpr uint32_t GRANULE = LOGICPIM_GRANULE_BYTES, CHECK = LOGICPIM_CHECK_BYTES;

    void read(uint64_t granule, const uint8_t* data, uint8_t* check) const {
        for (uint32_t p = 0; p < CHECK; p++) check[p] = check_of(data + 8 * p);
        auto found = faults_.find(granule);
        if (found == faults_.end()) return;
        for (uint32_t p = 0; p < CHECK; p++) check[p] ^= found->second[p];
    }
    void write(uint64_t granule, const uint8_t* data, const uint8_t* check) {
        Bytes difference{};
        for (uint32_t p = 0; p < CHECK; p++) difference[p] = check[p] ^ check_of(data + 8 * p);
        if (difference == Bytes{}) faults_.erase(granule);
        else faults_[granule] = difference;
    }
    // Inverts a stored bit: of the data, or above it of the check bits.
    void inject(uint64_t granule, uint8_t* data, uint32_t bit) {
        if (!CHECK) return void(data[bit / 8] ^= 1 << bit % 8);
        uint8_t check[CHECK + 1];
        read(granule, data, check);
        if (bit < 8 * GRANULE) data[bit / 8] ^= 1 << bit % 8;
        else check[(bit - 8 * GRANULE) / 8] ^= 1 << bit % 8;
        write(granule, data, check);
    }
    uint64_t faults() const { return faults_.size(); }

private:
    using Bytes = std::array<uint8_t, CHECK + 1>;
    std::unordered_map<uint64_t, Bytes> faults_;
};

// Serves what it is asked without judging distances: that is the checker's part. What it cannot
// serve moves garbage or nothing and is told as a fault.
class Dram {
public:
    Dram(uint8_t* storage, uint64_t seed)
        : storage_(storage), garbage_(seed), random_(seed * 2 + 1) {
        rows_.fill(CLOSED);
    }

    // During a clock: the commands of its slots, then the data that moves in it.
    void row_command(uint64_t nck, Record r) {
        r.clock = nck;
        note(r);
        switch (r.command) {
        case LOGICPIM_DRAM_ACT: case LOGICPIM_DRAM_ALL_ACT: case LOGICPIM_DRAM_PART_ACT:
            set_rows(r, int64_t(r.row)); break;
        case LOGICPIM_DRAM_PRE: case LOGICPIM_DRAM_ALL_PRE: set_rows(r, CLOSED); break;
        case LOGICPIM_DRAM_REFAB: case LOGICPIM_DRAM_REFPB: break;
        default: fault(r, "is no row command");
        }
    }

    void column_command(uint64_t nck, Record r, uint64_t path) {
        r.clock = nck;
        note(r);
        bool read = r.command == LOGICPIM_DRAM_RD || r.command == LOGICPIM_DRAM_ALL_RD;
        if (!read && r.command != LOGICPIM_DRAM_WR && r.command != LOGICPIM_DRAM_ALL_WR)
            return fault(r, "is no column command");
        Place p = place(r);
        if (!p.there || r.column >= LOGICPIM_COLUMNS)
            return fault(r, "addresses something that is not there");
        int64_t row = rows_[p.bundle * LANES + p.lane];
        for (uint32_t i = 0; i < p.lanes; i++) {
            if (rows_[p.bundle * LANES + p.lane + i] == CLOSED)
                return fault(r, "finds a bank closed");
            if (rows_[p.bundle * LANES + p.lane + i] != row)
                return fault(r, "finds different rows open");
        }
        bool whole = p.lanes > 1;
        if ((path >> p.bundle & 1) != whole) return fault(r, "finds the path bit wrong");
        uint64_t due = nck / 2 + (read ? LOGICPIM_READ_LATENCY : LOGICPIM_WRITE_LATENCY);
        Transfer& t = (read ? reads_ : writes_)[whole][due % DEPTH];
        if (t.busy) return fault(r, "moves data together with the command before");
        uint64_t word = (uint64_t(p.bundle) * LOGICPIM_ROWS + row) * LOGICPIM_COLUMNS + r.column;
        t = {true, p.bundle, storage_ + (word * LANES + p.lane) * GRANULE, r};
        if (!read) return;
        std::memcpy(held_[whole][due % DEPTH], t.at, p.lanes * GRANULE);
        uint64_t granule = word * LANES + p.lane;
        for (uint32_t i = 0; CHECK && i < p.lanes; i++) {
            uint8_t* data = held_[whole][due % DEPTH] + i * GRANULE;
            uint8_t* check = check_[whole][due % DEPTH] + i * CHECK;
            side_.read(granule + i, data, check);
            if (noise) disturb(data, check);
        }
    }

    // What a read bus carries during a clock.
    const uint8_t* read(uint64_t clock, bool whole) {
        return reads_[whole][clock % DEPTH].busy ? held_[whole][clock % DEPTH]
                                                 : garbage_(whole ? LANES * GRANULE : GRANULE);
    }

    // What its side band carries.
    const uint8_t* read_check(uint64_t clock, bool whole) {
        return reads_[whole][clock % DEPTH].busy ? check_[whole][clock % DEPTH]
                                                 : garbage_(whole ? LANES * CHECK : CHECK);
    }

    // The end of a clock: takes write data, checks the path of all data that moved.
    template <class Take>
    void finish(uint64_t clock, uint64_t path, Take take) {
        for (int whole = 0; whole < 2; whole++) {
            Transfer& r = reads_[whole][clock % DEPTH];
            if (r.busy) switched(r, path, whole), r.busy = false;
            Transfer& w = writes_[whole][clock % DEPTH];
            if (w.busy) {
                if (switched(w, path, whole)) {
                    uint8_t check[LANES * CHECK + 1];
                    take(whole, w.at, check);
                    for (uint32_t i = 0; CHECK && i < (whole ? LANES : 1); i++)
                        side_.write((w.at - storage_) / GRANULE + i, w.at + i * GRANULE,
                                    check + i * CHECK);
                }
                w.busy = false;
            }
        }
    }

    void report(const char* fault) {
        if (!faults++) first_fault = fault;
    }

    // Inverts a stored bit of a granule.
    void inject(uint64_t granule, uint32_t bit) {
        side_.inject(granule, storage_ + granule * GRANULE, bit);
    }
    uint64_t wrong_granules() const { return side_.faults(); }

    static constexpr uint32_t LANES = LOGICPIM_BUNDLE_BANKS, GRANULE = LOGICPIM_GRANULE_BYTES;
    static constexpr uint32_t CHECK = LOGICPIM_CHECK_BYTES;

    uint32_t noise = 0;       // different bits to invert in each part that is read
    uint64_t disturbed = 0;   // parts in which that was done
    std::vector<Record> trace;
    bool tracing = true;
    uint64_t faults = 0, commands = 0, columns = 0;
    std::string first_fault;
    Record last{};

private:
    static constexpr int64_t CLOSED = -1;
    static constexpr uint32_t DEPTH =  // of the rings of transfers under way
        power_above(LOGICPIM_READ_LATENCY > LOGICPIM_WRITE_LATENCY ? LOGICPIM_READ_LATENCY
                                                                   : LOGICPIM_WRITE_LATENCY);
    static_assert(LANES > 1, "a bundle is more than a bank");
    static constexpr uint32_t PER_RANK = LOGICPIM_BUNDLES / LOGICPIM_RANKS;
    static constexpr uint32_t PER_GROUP = LANES / LOGICPIM_BANK_GROUPS;

    struct Place { bool there; uint32_t bundle, lane, lanes; };
    struct Transfer { bool busy; uint32_t bundle; uint8_t* at; Record why; };

    static bool is_bundle(uint8_t command) {
        return command == LOGICPIM_DRAM_ALL_ACT || command == LOGICPIM_DRAM_ALL_PRE
            || command == LOGICPIM_DRAM_ALL_RD || command == LOGICPIM_DRAM_ALL_WR;
    }

    // As logicpim.spec.dram.Organisation.lane_of.
    static Place place(const Record& r) {
        if (r.command == LOGICPIM_DRAM_PART_ACT)
            return {r.bank / PER_RANK == r.rank && r.rank < LOGICPIM_RANKS
                    && r.bank_group < PER_GROUP, r.bank,
                    r.bank_group * LOGICPIM_BANK_GROUPS, LOGICPIM_BANK_GROUPS};
        if (is_bundle(r.command))
            return {r.bank / PER_RANK == r.rank && r.rank < LOGICPIM_RANKS, r.bank, 0, LANES};
        bool there = r.rank < LOGICPIM_RANKS && r.bank_group < LOGICPIM_BANK_GROUPS
            && r.bank < LOGICPIM_BANKS_PER_GROUP;
        return {there, r.rank * PER_RANK + r.bank / PER_GROUP,
                r.bank % PER_GROUP * LOGICPIM_BANK_GROUPS + r.bank_group, 1};
    }

    void set_rows(const Record& r, int64_t row) {
        Place p = place(r);
        if (!p.there || row >= LOGICPIM_ROWS)
            return fault(r, "addresses something that is not there");
        for (uint32_t i = 0; i < p.lanes; i++) {
            int64_t& open = rows_[p.bundle * LANES + p.lane + i];
            if (row != CLOSED && open != CLOSED) fault(r, "opens a row in an open bank");
            open = row;
        }
    }

    bool switched(const Transfer& t, uint64_t path, bool whole) {
        if ((path >> t.bundle & 1) == whole) return true;
        fault(t.why, "moves data with the path bit wrong");
        return false;
    }

    // Inverts `noise` different bits of the 72 of each part, on the bus alone.
    void disturb(uint8_t* data, uint8_t* check) {
        for (uint32_t p = 0; p < CHECK; p++, disturbed++) {
            uint32_t bits[72];
            for (uint32_t i = 0; i < noise; i++) {
                do bits[i] = random() % 72;
                while (std::find(bits, bits + i, bits[i]) != bits + i);
                if (bits[i] < 64) data[8 * p + bits[i] / 8] ^= 1 << bits[i] % 8;
                else check[p] ^= 1 << (bits[i] - 64);
            }
        }
    }
    uint32_t random() {
        random_ ^= random_ << 13, random_ ^= random_ >> 7, random_ ^= random_ << 17;
        return uint32_t(random_ >> 32);
    }

    void note(const Record& r) {
        commands++;
        columns += r.command >= LOGICPIM_DRAM_RD;
        last = r;
        if (tracing) trace.push_back(r);
    }

    void fault(const Record& r, const char* what) {
        char text[200];
        std::snprintf(text, sizeof text, "DRAM command %u (rank %u, group %u, bank %u, row %u, "
                      "column %u) of command clock %llu %s", r.command, r.rank, r.bank_group,
                      r.bank, r.row, r.column, (unsigned long long)r.clock, what);
        report(text);
    }

    uint8_t* storage_;
    Garbage garbage_;
    std::array<int64_t, LOGICPIM_BUNDLES * LANES> rows_;
    Transfer reads_[2][DEPTH]{}, writes_[2][DEPTH]{};
    uint8_t held_[2][DEPTH][LANES * GRANULE], check_[2][DEPTH][LANES * CHECK + 1];
    SideBand side_;
    uint64_t random_;
};
