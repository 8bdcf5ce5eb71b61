// SPDX-License-Identifier: BSD-2-Clause
// The Verilated channel with its DRAM behind a C interface that runs many clocks a call.

#include <algorithm>
#include <memory>

#include "Vchannel.h"
#include "dram.h"
#include "verilated.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ports are copied as bytes");

namespace {

constexpr size_t GRANULE = LOGICPIM_GRANULE_BYTES, WORD = LOGICPIM_WORD_BYTES;
constexpr size_t CHECK = LOGICPIM_CHECK_BYTES, LANES = Dram::LANES;
constexpr size_t MASK = (GRANULE + 7) / 8, INSTRUCTION = LOGICPIM_INSTRUCTION_BYTES;

template <class Port> void set(Port& port, const void* data, size_t bytes) {
    static_assert(sizeof(Port) <= WORD + 8, "a port, not a model");
    std::memcpy(&port, data, std::min(bytes, sizeof(Port)));
}
template <class Port> void get(const Port& port, void* data, size_t bytes) {
    std::memcpy(data, &port, std::min(bytes, sizeof(Port)));
}

}  // namespace

extern "C" {

// What a call is to do and has done so far; mirrored field by field in device.py.
struct Job {
    // Instructions in, completions out.
    uint64_t instructions, issued, completed;
    const uint8_t* descriptors;
    uint16_t* tags;
    uint8_t* statuses;
    uint64_t *issue_clocks, *done_clocks;
    // Host requests in, responses out. Masks and data may be null: all bytes, zeroes.
    uint64_t requests, asked, answered;
    const uint8_t *writes, *regions;
    const uint32_t* addresses;
    const uint8_t *data, *masks;
    uint8_t *answers, *errors;
    // Chances in 256 that each side pauses for a clock: instruction, completion, request, response.
    uint32_t pauses[4];
    uint64_t idle_limit;
};

enum { DONE, MORE, STUCK };

}

namespace {

class Channel {
public:
    Channel(uint8_t* storage, uint64_t seed) : dram(storage, seed), random_(seed * 2 + 1) {
        context_ = std::make_unique<VerilatedContext>();
        enter();
        model_ = std::make_unique<Vchannel>(context_.get(), "channel");
        Job nothing{};
        model_->rst = 1;
        for (int i = 0; i < 4; i++) step(nothing, false);
        model_->rst = 0;
        clock = 0;
        dram.trace.clear();
        dram.commands = dram.faults = 0;
    }
    ~Channel() {
        enter();
        model_->final();
        model_.reset();
    }

    int run(Job& job, uint64_t clocks) {
        enter();
        uint64_t seen = progress(job);
        for (uint64_t i = 0; i < clocks; i++) {
            if (job.completed == job.instructions && job.answered == job.requests) return DONE;
            step(job, true);
            if (uint64_t now = progress(job); now != seen) {
                seen = now;
                idle_since = clock;
            } else if (clock - idle_since > job.idle_limit) {
                return STUCK;
            }
        }
        return job.completed == job.instructions && job.answered == job.requests ? DONE : MORE;
    }

    void idle(uint64_t clocks) {
        enter();
        Job nothing{};
        for (uint64_t i = 0; i < clocks; i++) step(nothing, true);
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
        Vchannel& m = *model_;
        switch (link) {
        case 0: return change(m.stuck_bundle_read, m.level_bundle_read);
        case 1: return change(m.stuck_host_read, m.level_host_read);
        case 2: return change(m.stuck_bundle_write, m.level_bundle_write);
        case 3: return change(m.stuck_host_write, m.level_host_write);
        }
#endif
    }

    Dram dram;
    uint64_t clock = 0, idle_since = 0;

private:
    // Verilator finds the context in a variable of the thread, where another channel's may be.
    void enter() { Verilated::threadContextp(context_.get()); }

    // Anything that a stuck channel does not do: refresh and garbage are no progress.
    uint64_t progress(const Job& job) const {
        return job.issued + job.completed + job.asked + job.answered + dram.columns;
    }

    bool chance(uint32_t of_256) {
        if (!of_256) return false;
        random_ ^= random_ << 13, random_ ^= random_ >> 7, random_ ^= random_ << 17;
        return (random_ >> 40 & 255) < of_256;
    }

    // One clock: inputs, falling edge, outputs, rising edge.
    void step(Job& job, bool live) {
        Vchannel& m = *model_;
        set(m.dram_bundle_rdata, dram.read(clock, true), WORD);
        set(m.dram_host_rdata, dram.read(clock, false), GRANULE);
#if LOGICPIM_CHECK_BYTES
        set(m.dram_bundle_rcheck, dram.read_check(clock, true), LANES * CHECK);
        set(m.dram_host_rcheck, dram.read_check(clock, false), CHECK);
#endif
        offer(job);
        m.clk = 0;
        m.eval();
        if (live) {
            accept(job);
            commands();
        }
        m.clk = 1;
        m.eval();
        clock++;
    }

    // What has been offered is not taken back before it is taken.
    void offer(const Job& job) {
        Vchannel& m = *model_;
        offering_[0] |= job.issued < job.instructions && !chance(job.pauses[0]);
        offering_[1] |= job.asked < job.requests && !chance(job.pauses[2]);
        m.insn_valid = offering_[0];
        m.host_req_valid = offering_[1];
        m.done_ready = job.completed < job.issued && !chance(job.pauses[1]);
        m.host_resp_ready = job.answered < job.asked && !chance(job.pauses[3]);
        if (m.insn_valid)
            set(m.insn_payload, job.descriptors + job.issued * INSTRUCTION, INSTRUCTION);
        if (m.host_req_valid) {
            uint64_t i = job.asked;
            m.host_req_write = job.writes[i];
            m.host_req_region = job.regions[i];
            m.host_req_address = job.addresses[i];
            if (job.data) set(m.host_req_data, job.data + i * GRANULE, GRANULE);
            if (job.masks) set(m.host_req_mask, job.masks + i * MASK, MASK);
            else std::memset(&m.host_req_mask, 255, MASK);
        }
    }

    void accept(Job& job) {
        Vchannel& m = *model_;
        bool issued = m.insn_valid && m.insn_ready, done = m.done_valid && m.done_ready;
        bool asked = m.host_req_valid && m.host_req_ready;
        bool answered = m.host_resp_valid && m.host_resp_ready;
        if (m.done_valid && job.completed == job.issued)
            dram.report("a completion of no instruction");
        if (m.host_resp_valid && job.answered == job.asked)
            dram.report("a response to no host request");
        if (done) {
            job.tags[job.completed] = m.done_tag;
            job.statuses[job.completed] = m.done_status;
            job.done_clocks[job.completed++] = clock;
        }
        if (issued) job.issue_clocks[job.issued++] = clock, offering_[0] = false;
        if (answered) {
            get(m.host_resp_data, job.answers + job.answered * GRANULE, GRANULE);
            job.errors[job.answered++] = m.host_resp_error;
        }
        if (asked) job.asked++, offering_[1] = false;
    }

    void commands() {
        Vchannel& m = *model_;
        if (m.dram_row0_command | m.dram_row1_command | m.dram_column0_command
            | m.dram_column1_command) {
#define SLOT(bus, address, field) Record r{}; \
            r.command = m.dram_##bus##_command; r.rank = m.dram_##bus##_rank; \
            r.bank_group = m.dram_##bus##_bank_group; r.bank = m.dram_##bus##_bank; \
            r.field = m.dram_##bus##_##address;
            if (m.dram_row0_command) { SLOT(row0, row, row) row(0, r); }
            if (m.dram_column0_command) { SLOT(column0, column, column) column(0, r); }
            if (m.dram_row1_command) { SLOT(row1, row, row) row(1, r); }
            if (m.dram_column1_command) { SLOT(column1, column, column) column(1, r); }
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
    void row(int slot, Record r) {
        if (r.command == LOGICPIM_DRAM_REFAB) r.bank = r.bank_group = 0, r.row = 0;
        if (r.command == LOGICPIM_DRAM_PRE || r.command == LOGICPIM_DRAM_ALL_PRE
            || r.command == LOGICPIM_DRAM_REFPB) r.row = 0;
        if (r.command == LOGICPIM_DRAM_ALL_ACT || r.command == LOGICPIM_DRAM_ALL_PRE)
            r.bank_group = 0;
        dram.row_command(2 * clock + slot, r);
    }
    void column(int slot, Record r) {
        if (r.command == LOGICPIM_DRAM_ALL_RD || r.command == LOGICPIM_DRAM_ALL_WR)
            r.bank_group = 0;
        dram.column_command(2 * clock + slot, r, model_->dram_path);
    }

    std::unique_ptr<VerilatedContext> context_;
    std::unique_ptr<Vchannel> model_;
    uint64_t random_;
    bool offering_[2]{};
};

}  // namespace

#define API __attribute__((visibility("default")))

extern "C" {

// What a channel says about itself; mirrored field by field in device.py.
struct State {
    uint64_t clock, commands, faults;
    const char* first_fault;
    const Record* trace;
    uint64_t trace_length;
    Record last;
};

API Channel* logicpim_open(uint8_t* storage, uint64_t seed) { return new Channel(storage, seed); }
API void logicpim_close(Channel* channel) { delete channel; }
API int logicpim_run(Channel* channel, Job* job, uint64_t clocks) { return channel->run(*job, clocks); }
API void logicpim_begin(Channel* channel) { channel->idle_since = channel->clock; }
API void logicpim_idle(Channel* channel, uint64_t clocks) { channel->idle(clocks); }
API void logicpim_state(Channel* channel, State* state) {
    Dram& dram = channel->dram;
    *state = {channel->clock, dram.commands, dram.faults, dram.first_fault.c_str(),
              dram.trace.data(), dram.trace.size(), dram.last};
}
API void logicpim_inject(Channel* channel, uint64_t granule, uint32_t bit) {
    channel->dram.inject(granule, bit);
}
API uint64_t logicpim_wrong_granules(Channel* channel) { return channel->dram.wrong_granules(); }
API uint64_t logicpim_disturb(Channel* channel, uint32_t bits) {
    channel->dram.noise = bits;
    return channel->dram.disturbed;
}
API void logicpim_stick(Channel* channel, uint32_t link, uint32_t lane, int state) {
    channel->stick(link, lane, state);
}
API void logicpim_clear_trace(Channel* channel, int keep_on) {
    channel->dram.trace.clear();
    channel->dram.tracing = keep_on;
}

}
