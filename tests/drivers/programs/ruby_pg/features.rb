# frozen_string_literal: true

require "pg"

# A feature is run by CLIENTS threads at the same time, each with connections of its own; it counts its checks.
module Features
  CLIENTS = Integer(ENV.fetch("CLIENTS", "8"))
  PREFIX = ENV.fetch("PREFIX", "ruby_")
  DEADLINE = 30

  class Failed < StandardError; end

  # What the clients of one feature share.
  class State
    attr_reader :lock, :turn
    attr_accessor :checks, :had_their_turn, :failure

    def initialize
      @lock = Mutex.new
      @turn = Mutex.new
      @checks = 0
      @had_their_turn = 0
    end

    def failed(why)
      lock.synchronize { self.failure ||= why }
    end
  end

  class Client
    attr_reader :number

    def initialize(state, number)
      @state = state
      @number = number
      @connections = []
    end

    # A new connection, all else of which comes from the PG* variables. It is closed when the feature is over.
    def connect(**options)
      connection = PG.connect(**options)
      connection.set_notice_processor { |_| }
      @connections << connection
      connection
    end

    # The name of a table of this client's own.
    def table(what)
      "#{PREFIX}#{what}_#{number}"
    end

    def check(holds, what)
      raise Failed, what unless holds

      @state.lock.synchronize { @state.checks += 1 }
    end

    def same(actual, expected, what)
      check(actual == expected, "#{what}: expected #{expected.inspect}, got #{actual.inspect}"[0, 400])
    end

    # The block fails with this error of PG's; gives it.
    def fails(kind)
      begin
        yield
      rescue PG::Error => e
        same(e.class, kind, "error: #{e.message}")
        return e
      end
      raise Failed, "no error, but #{kind} was expected"
    end

    # For what holds state on its server from one transaction to the next: one client at a time runs the block, the others
    # run plain queries meanwhile.
    def in_turn(connection)
      until @state.turn.try_lock
        plain(connection)
        sleep 0.003
      end
      begin
        raise Failed, "another client failed" if @state.failure

        yield
      ensure
        @state.turn.unlock
        @state.lock.synchronize { @state.had_their_turn += 1 }
      end
      while @state.had_their_turn < CLIENTS && !@state.failure
        plain(connection)
        sleep 0.003
      end
    end

    def close
      @connections.each { |connection| connection.close unless connection.finished? }
    end

    private

    def plain(connection)
      some = rand(1000)
      got = connection.exec_params("SELECT $1::int + $2::int", [some, number]).getvalue(0, 0).to_i
      raise Failed, "a plain query answered #{got}" unless got == some + number
    end
  end

  # Run the block for each client and print the feature's line; passed over where FEATURE names another one.
  def self.run(name, &body)
    return unless [nil, "", name].include?(ENV["FEATURE"])

    state = State.new
    threads = Array.new(CLIENTS) do |number|
      Thread.new { work(state, Client.new(state, number), body) }
    end
    give_up = Process.clock_gettime(Process::CLOCK_MONOTONIC) + DEADLINE
    threads.each_with_index do |thread, number|
      next if thread.join([give_up - Process.clock_gettime(Process::CLOCK_MONOTONIC), 0.01].max)

      state.failed("client #{number} did not end, it is at #{place(thread.backtrace)}")
      thread.kill
    end
    puts state.failure ? "not ok #{name} #{state.failure.gsub(/\s+/, ' ')}" : "ok #{name} #{state.checks}"
    $stdout.flush
  end

  def self.work(state, client, body)
    body.call(client)
    client.close
  rescue StandardError => e
    state.failed("client #{client.number}: #{e.class} #{e.message} at #{place(e.backtrace)}")
    begin
      client.close
    rescue StandardError
      nil # it is gone
    end
  end

  def self.place(backtrace)
    frame = (backtrace || []).find { |line| line.include?("pg.rb:") && !line.include?("/lib/") }
    frame ? frame[/pg\.rb:\d+/] : (backtrace || ["an unknown place"]).first
  end

  # What an earlier run may have left.
  def self.drop_all
    connection = PG.connect
    connection.exec(<<~SQL)
      DO $$ DECLARE it text; BEGIN
        FOR it IN SELECT quote_ident(nspname) FROM pg_namespace WHERE starts_with(nspname, '#{PREFIX}')
          LOOP EXECUTE 'DROP SCHEMA ' || it || ' CASCADE'; END LOOP;
        FOR it IN SELECT oid::regclass FROM pg_class WHERE starts_with(relname, '#{PREFIX}') AND relkind = 'r'
          LOOP EXECUTE 'DROP TABLE ' || it || ' CASCADE'; END LOOP;
      END $$
    SQL
    connection.close
  end
end
