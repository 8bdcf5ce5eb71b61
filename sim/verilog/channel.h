// SPDX-License-Identifier: BSD-2-Clause
// What stands around one channel of a Verilated model: its DRAM and the host's side of its port.
#pragma once

#include <utility>

#include "dram.h"
#include "ports.h"

// Made with the library: `Model`, `CHANNELS(X)` with the number and the prefix of the ports of each
// channel, FIRST_PREFIX that of the first.
constexpr size_t GRANULE = LOGICPIM_GRANULE_BYTES, WORD = LOGICPIM_WORD_BYTES;
constexpr size_t CHECK = LOGICPIM_CHECK_BYTES, LANES = Dram::LANES;
constexpr size_t MASK = (GRANULE + 7) / 8;

template <class Port> void set(Port& port, const void* data, size_t bytes) {
    static_assert(sizeof(Port) <= WORD + 8, "a port, not a model");
    std::memcpy(&port, data, std::min(bytes, sizeof(Port)));
}
template <class Port> void get(const Port& port, void* data, size_t bytes) {
    std::memcpy(data, &port, std::min(bytes, sizeof(Port)));
}

#define SLOT_PORTS(P, p, slot, address) P(p, dram_##slot##_command) P(p, dram_##slot##_rank) \
    P(p, dram_##slot##_bank_group) P(p, dram_##slot##_bank) P(p, dram_##slot##_##address)
#if LOGICPIM_CHECK_BYTES
#define CHECK_PORTS(P, p) P(p, dram_bundle_rcheck) P(p, dram_host_rcheck) \
    P(p, dram_bundle_wcheck) P(p, dram_host_wcheck)
#else
#define CHECK_PORTS(P, p)
#endif
#if LOGICPIM_LANE_REPAIR
#define LANE_PORTS(P, p) P(p, stuck_bundle_read) P(p, level_bundle_read) \
    P(p, stuck_host_read) P(p, level_host_read) P(p, stuck_bundle_write) \
    P(p, level_bundle_write) P(p, stuck_host_write) P(p, level_host_write)
#else
#define LANE_PORTS(P, p)
#endif
#define PORTS(P, p) P(p, host_req_valid) P(p, host_req_ready) P(p, host_req_write) \
    P(p, host_req_region) P(p, host_req_address) P(p, host_req_data) P(p, host_req_mask) \
    P(p, host_resp_valid) P(p, host_resp_ready) P(p, host_resp_data) P(p, host_resp_error) \
    SLOT_PORTS(P, p, row0, row) SLOT_PORTS(P, p, row1, row) \
    SLOT_PORTS(P, p, column0, column) SLOT_PORTS(P, p, column1, column) \
    P(p, dram_path) P(p, dram_bundle_rdata) P(p, dram_bundle_wdata) P(p, dram_host_rdata) \
    P(p, dram_host_wdata) P(p, dram_host_wmask) CHECK_PORTS(P, p) LANE_PORTS(P, p)

// The ports of one channel, whichever model they belong to.
struct Ports {
#define FIELD(p, name) decltype((std::declval<Model&>().p##name)) name;
    PORTS(FIELD, FIRST_PREFIX)
#undef FIELD
};

inline Ports ports_of(Model& model, unsigned channel) {
    switch (channel) {
#define MEMBER(p, name) model.p##name,
#define CASE(number, p) case number: return Ports{PORTS(MEMBER, p)};
        CHANNELS(CASE)
#undef CASE
#undef MEMBER
    }
    std::abort();
}

extern "C" {

// Host requests of one channel, and the responses; mirrored field by field in binding.py. Masks and
// data may be null: all bytes, zeroes.
struct Traffic {
    uint64_t requests, asked, answered;
    const uint8_t *writes, *regions;
    const uint32_t* addresses;
    const uint8_t *data, *masks;
    uint8_t *answers, *errors;
};

}

// Chances in 256 that each side pauses for a clock.
class Chance {
public:
    explicit Chance(uint64_t seed) : random_(seed * 2 + 1) {}
    bool operator()(uint32_t of_256) {
        if (!of_256) return false;
        random_ ^= random_ << 13, random_ ^= random_ >> 7, random_ ^= random_ << 17;
        return (random_ >> 40 & 255) < of_256;
    }

private:
    uint64_t random_;
};

class Channel {
public:
    Channel(Model& model, unsigned number, uint8_t* storage, uint64_t seed)
        : dram(storage, seed), ports_(ports_of(model, number)), chance_(seed) {}

    // Before the clock: what the DRAM delivers in it, and a host request if there is one.
    void offer(const Traffic& job, uint64_t clock, const uint32_t* pauses) {
        Ports& m = ports_;
        set(m.dram_bundle_rdata, dram.read(clock, true), WORD);
        set(m.dram_host_rdata, dram.read(clock, false), GRANULE);
#if LOGICPIM_CHECK_BYTES
        set(m.dram_bundle_rcheck, dram.read_check(clock, true), LANES * CHECK);
        set(m.dram_host_rcheck, dram.read_check(clock, false), CHECK);
#endif
        // What has been offered is not taken back before it is taken.
        offering_ |= job.asked < job.requests && !chance_(pauses[2]);
        m.host_req_valid = offering_;
        m.host_resp_ready = job.answered < job.asked && !chance_(pauses[3]);
        if (!offering_) return;
        uint64_t i = job.asked;
        m.host_req_write = job.writes[i];
        m.host_req_region = job.regions[i];
        m.host_req_address = job.addresses[i];
        if (job.data) set(m.host_req_data, job.data + i * GRANULE, GRANULE);
        if (job.masks) set(m.host_req_mask, job.masks + i * MASK, MASK);
        else std::memset(&m.host_req_mask, 255, MASK);
    }

    // At its end: what of it passed, and what is asked of the DRAM.
    void accept(Traffic& job, uint64_t clock) {
        Ports& m = ports_;
        bool asked = m.host_req_valid && m.host_req_ready;
        bool answered = m.host_resp_valid && m.host_resp_ready;
        if (m.host_resp_valid && job.answered == job.asked)
            dram.report("a response to no host request");
        if (answered) {
            get(m.host_resp_data, job.answers + job.answered * GRANULE, GRANULE);
            job.errors[job.answered++] = m.host_resp_error;
        }
        if (asked) job.asked++, offering_ = false;
        commands(clock);
    }

    // Makes a lane of a link stuck at 0 or 1, or sound again.
    void stick(uint32_t link, uint32_t lane, int state) {
#if LOGICPIM_LANE_REPAIR
        auto change = [&](auto& stuck, auto& level) {
            auto* bytes = reinterpret_cast<uint8_t*>(&stuck);
            auto* values = reinterpret_cast<uint8_t*>(&level);
            if (lane / 8 >= sizeof stuck) return;
            uint8_t bit = uint8_t(1 << lane % 8);
            bytes[lane / 8] = state < 0 ? bytes[lane / 8] & ~bit : bytes[lane / 8] | bit;
            values[lane / 8] = state > 0 ? values[lane / 8] | bit : values[lane / 8] & ~bit;
        };
        Ports& m = ports_;
        switch (link) {
        case 0: return change(m.stuck_bundle_read, m.level_bundle_read);
        case 1: return change(m.stuck_host_read, m.level_host_read);
        case 2: return change(m.stuck_bundle_write, m.level_bundle_write);
        case 3: return change(m.stuck_host_write, m.level_host_write);
        }
#endif
    }

    Dram dram;

private:
    void commands(uint64_t clock) {
        Ports& m = ports_;
        if (m.dram_row0_command | m.dram_row1_command | m.dram_column0_command
            | m.dram_column1_command) {
#define SLOT(bus, address, field) Record r{}; \
            r.command = m.dram_##bus##_command; r.rank = m.dram_##bus##_rank; \
            r.bank_group = m.dram_##bus##_bank_group; r.bank = m.dram_##bus##_bank; \
            r.field = m.dram_##bus##_##address;
            if (m.dram_row0_command) { SLOT(row0, row, row) row(2 * clock, r); }
            if (m.dram_column0_command) { SLOT(column0, column, column) column(2 * clock, r); }
            if (m.dram_row1_command) { SLOT(row1, row, row) row(2 * clock + 1, r); }
            if (m.dram_column1_command) { SLOT(column1, column, column) column(2 * clock + 1, r); }
#undef SLOT
        }
        dram.finish(clock, m.dram_path, [&](bool whole, uint8_t* at, uint8_t* check) {
#if LOGICPIM_CHECK_BYTES
            if (whole) get(m.dram_bundle_wcheck, check, LANES * CHECK);
            else get(m.dram_host_wcheck, check, CHECK);
#endif
            if (whole) return get(m.dram_bundle_wdata, at, WORD);
            uint8_t data[GRANULE], mask[MASK];
            get(m.dram_host_wdata, data, GRANULE);
            get(m.dram_host_wmask, mask, MASK);
            if (CHECK && !std::all_of(mask, mask + MASK, [](uint8_t b) { return b == 255; }))
                dram.report("a masked write of a granule with check bits");
            for (size_t i = 0; i < GRANULE; i++)
                if (mask[i / 8] >> i % 8 & 1) at[i] = data[i];
        });
    }

    // Fields that do not apply to a command are 0 in the trace.
    void row(uint64_t nck, Record r) {
        if (r.command == LOGICPIM_DRAM_REFAB) r.bank = r.bank_group = 0, r.row = 0;
        if (r.command == LOGICPIM_DRAM_PRE || r.command == LOGICPIM_DRAM_ALL_PRE
            || r.command == LOGICPIM_DRAM_REFPB) r.row = 0;
        if (r.command == LOGICPIM_DRAM_ALL_ACT || r.command == LOGICPIM_DRAM_ALL_PRE)
            r.bank_group = 0;
        dram.row_command(nck, r);
    }
    void column(uint64_t nck, Record r) {
        if (r.command == LOGICPIM_DRAM_ALL_RD || r.command == LOGICPIM_DRAM_ALL_WR)
            r.bank_group = 0;
        dram.column_command(nck, r, ports_.dram_path);
    }

    Ports ports_;
    Chance chance_;
    bool offering_ = false;
};
