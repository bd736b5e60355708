-- Tasks of the board. `position` orders the tasks of one column; there are gaps, so that a move writes one row.
create table task (
    id uuid primary key default gen_random_uuid(),
    title text not null check (char_length(title) between 1 and 200),
    notes text not null default '' check (char_length(notes) <= 4000),
    board_column text not null check (board_column in ('todo', 'doing', 'done')),
    position integer not null,
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index task_order on task (board_column, position, id);

-- Files of a task; their bytes lie in object storage under `object_key`. A row without `stored_at` is an upload
-- that has not ended: nobody sees it.
create table attachment (
    id uuid primary key default gen_random_uuid(),
    task_id uuid not null references task (id) on delete cascade,
    name text not null check (char_length(name) between 1 and 200),
    content_type text not null check (char_length(content_type) between 1 and 200),
    size_bytes integer not null check (size_bytes > 0),
    object_key text not null unique,
    created_at timestamptz not null default now(),
    stored_at timestamptz
);

create index attachment_of_task on attachment (task_id, created_at, id);
create index attachment_unfinished on attachment (created_at) where stored_at is null;
